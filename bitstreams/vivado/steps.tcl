# From the Verilog to the overlay. Sourced by build.tcl.

proc read_file {path} {
    set file [open $path r]
    set text [read $file]
    close $file
    return $text
}

proc write_file {path text} {
    set file [open $path w]
    puts $file $text
    close $file
}

# The newest version of an IP that this Vivado has.
proc newest {ip} {
    set found [lsort -dictionary [get_ipdefs -all xilinx.com:ip:$ip:*]]
    if {[llength $found] == 0} {
        error "this Vivado has no IP $ip"
    }
    return [lindex $found end]
}

# A cell of the block design with an IP of AMD's.
proc cell {ip name {settings {}}} {
    set made [create_bd_cell -type ip -vlnv [newest $ip] $name]
    configure $made $settings
    return $made
}

proc configure {made settings} {
    set named {}
    foreach {key value} $settings {
        lappend named CONFIG.$key $value
    }
    if {[llength $named]} {
        set_property -dict $named $made
    }
}

proc finish {run} {
    wait_on_run $run
    if {[get_property PROGRESS [get_runs $run]] ne "100%"} {
        error "$run: [get_property STATUS [get_runs $run]]"
    }
}

# What a row of the utilisation report says is used; 0 if there is no such row.
proc used {report row} {
    if {[regexp -line "^\\s*\\|\\s*$row\\*?\\s*\\|\\s*(\[\\d.,\]+)\\s*\\|" $report -> number]} {
        return [string map {, {}} $number]
    }
    return 0
}

proc json {fields} {
    set lines {}
    foreach {name value} $fields {
        lappend lines "  \"$name\": $value"
    }
    return "{\n[join $lines ",\n"]\n}"
}

# --- version
set vivado [version -short]
if {![regexp {^\d+\.\d+} $vivado release]} {
    error "this is no Vivado: its version is \"$vivado\""
}
if {[package vcompare $release $oldest_vivado] < 0} {
    error "Vivado $vivado is too old, these scripts need $oldest_vivado or later"
}
if {[llength [get_parts -quiet $part]] == 0} {
    error "this Vivado has no part $part: add its family to the installation"
}
set jobs [expr {[info exists ::env(TRANSEPT_JOBS)] ? $::env(TRANSEPT_JOBS) : 4}]

foreach made {ip project reports overlay} {
    file delete -force [file join $folder $made]
}
file mkdir [file join $folder reports] [file join $folder overlay]

# --- the core
step "packaging the core"
source [file join $folder package.tcl]

# --- the block design
step "block design"
create_project -force system [file join $folder project system] -part $part
set boards [get_board_parts -quiet $board_files]
if {[llength $boards]} {
    set_property board_part [lindex [lsort -dictionary $boards] end] [current_project]
} else {
    puts "no board files $board_files: memory and pins of the processing system stay as its boot\
        loader sets them"
}
set_property ip_repo_paths [file join $folder ip] [current_project]
update_ip_catalog -rebuild
create_bd_design system
source [file join $folder design.tcl]
validate_bd_design
save_bd_design
set design [get_files system.bd]
# one synthesis of everything, so that constraints and timing hold across the cores
set_property synth_checkpoint_mode None $design
generate_target all $design
make_wrapper -files $design -top -import
set_property top system_wrapper [current_fileset]
update_compile_order -fileset sources_1
add_files -fileset constrs_1 -norecurse [file join $folder accelerator.xdc]

# --- synthesis and implementation
step "synthesis"
launch_runs synth_1 -jobs $jobs
finish synth_1
step "implementation"
set_property strategy $strategy [get_runs impl_1]
launch_runs impl_1 -jobs $jobs
finish impl_1

# --- reports
step "reports"
open_run impl_1
set reports [file join $folder reports]
report_timing_summary -max_paths 12 -file [file join $reports timing.rpt]
report_utilization -file [file join $reports utilization.rpt]
report_utilization -hierarchical -hierarchical_depth 5 -file [file join $reports hierarchy.rpt]
report_methodology -file [file join $reports methodology.rpt]
report_drc -file [file join $reports drc.rpt]

set synchroniser [get_cells -quiet -hierarchical -filter {IS_SEQUENTIAL && NAME =~ */synchroniser/reset*}]
if {[llength $synchroniser] != $reset_stages} {
    error "the reset has [llength $synchroniser] flip-flops to synchronise it, must have\
        $reset_stages: see accelerator.xdc"
}
foreach {name property} {setup WNS hold WHS pulse TPWS} {
    set slack($name) [get_property STATS.$property [get_runs impl_1]]
    if {![string is double -strict $slack($name)]} {
        error "timing: nothing is constrained, $property is \"$slack($name)\""
    }
}
set period [expr {1000.0 / $clock_mhz}]
set fmax [format %.1f [expr {1000.0 / ($period - $slack(setup))}]]
set table [read_file [file join $reports utilization.rpt]]
set resources [json [list \
    lut [used $table {(?:Slice|CLB) LUTs}] ff [used $table {(?:Slice|CLB) Registers}] \
    dsp [used $table DSPs] bram [used $table {Block RAM Tile}] uram [used $table URAM]]]
set facts [list \
    tool "\"Vivado $vivado\"" fmax_mhz $fmax slack_ns $slack(setup) \
    resources [string map [list "\n" "\n  "] $resources]]
write_file [file join $reports summary.json] [json $facts]

# --- timing decides
foreach name {setup hold pulse} {
    if {$slack($name) < 0} {
        error "timing is not met at $clock_mhz MHz: worst $name slack $slack($name) ns,\
            $fmax MHz by setup; see reports/timing.rpt"
    }
}

# --- the overlay
step "bitstream"
set name ${overlay_name}_v[string map {. _} $vivado]
set handoff [glob -nocomplain -directory [file join $folder project system] \
    system.{gen,srcs}/sources_1/bd/system/hw_handoff/system.hwh]
if {[llength $handoff] == 0} {
    error "Vivado has written no hand-off (system.hwh)"
}
write_bitstream -force [file join $folder overlay $name.bit]
file copy -force [lindex $handoff 0] [file join $folder overlay $name.hwh]
write_file [file join $folder overlay $name.json] [json [concat $manifest $facts]]
step "done: overlay/$name.bit, $fmax MHz"
