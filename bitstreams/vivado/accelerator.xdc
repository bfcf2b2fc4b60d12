# The clock is the processing system's, which brings its constraint. The reset's beginning is not
# timed; its end is, from the first flip-flop of the synchroniser on.
set_false_path -to [get_pins -filter {REF_PIN_NAME == PRE} -of_objects [get_cells -hierarchical -filter {IS_SEQUENTIAL && NAME =~ */synchroniser/reset*}]]
