# Builds the overlay of this folder:
#
#     vivado -mode batch -source build.tcl
#
# Reports go to reports/, the overlay (.bit, .hwh, .json) to overlay/. It ends with an error if
# timing is not met; there is no overlay then. TRANSEPT_JOBS: processes at once, 4 if not set.

set folder [file dirname [file normalize [info script]]]

proc step {what} {
    puts "transept: $what"
    flush stdout
}

if {[catch {
    source [file join $folder settings.tcl]
    source [file join $folder steps.tcl]
} message options]} {
    puts [dict get $options -errorinfo]
    step "error: [string map {\n { }} $message]"
    exit 1
}
