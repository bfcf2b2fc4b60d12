# The accelerator as an IP with its register map, in ip/. Sourced by build.tcl.

create_project -force core [file join $folder project core] -part $part
add_files -norecurse [file join $folder $core.v]
set_property top $core [current_fileset]
update_compile_order -fileset sources_1
lassign [split $vlnv :] vendor library kind revision
ipx::package_project -root_dir [file join $folder ip] -import_files \
    -vendor $vendor -library $library -taxonomy /Transept
set_property name $kind [ipx::current_core]
set_property version $revision [ipx::current_core]
set_property display_name "Transept accelerator, $config" [ipx::current_core]
set_property description $description [ipx::current_core]

# what is found by the names of ports differs between versions: everything is said here
ipx::remove_all_bus_interface [ipx::current_core]
foreach map [ipx::get_memory_maps -quiet -of_objects [ipx::current_core]] {
    ipx::remove_memory_map [get_property name $map] [ipx::current_core]
}
foreach space [ipx::get_address_spaces -quiet -of_objects [ipx::current_core]] {
    ipx::remove_address_space [get_property name $space] [ipx::current_core]
}

proc interface {name} {
    set found [ipx::get_bus_interfaces $name -of_objects [ipx::current_core]]
    if {[llength $found] != 1} {
        error "the core has no interface $name"
    }
    return $found
}

# Some are there already, because the names of ports suggest them.
proc parameter {bus name value} {
    set found [ipx::get_bus_parameters -quiet $name -of_objects [interface $bus]]
    if {[llength $found] == 0} {
        set found [ipx::add_bus_parameter $name [interface $bus]]
    }
    set_property value $value $found
}

foreach {bus ports} $buses {
    ipx::infer_bus_interface $ports xilinx.com:interface:aximm_rtl:1.0 [ipx::current_core]
}
foreach {signal kind} {aclk clock aresetn reset interrupt interrupt} {
    ipx::infer_bus_interface $signal xilinx.com:signal:${kind}_rtl:1.0 [ipx::current_core]
}
ipx::associate_bus_interfaces -busif s_axil -clock aclk [ipx::current_core]
ipx::associate_bus_interfaces -busif m_axi -clock aclk -reset aresetn [ipx::current_core]
parameter aresetn POLARITY ACTIVE_LOW
parameter interrupt SENSITIVITY LEVEL_HIGH
foreach {name value} $master {
    parameter m_axi $name $value
}

# one block: pynq names the registers of a core with several by block
set map [ipx::add_memory_map s_axil [ipx::current_core]]
set_property slave_memory_map_ref s_axil [interface s_axil]
set block [ipx::add_address_block $register_block $map]
set_property usage register $block
set_property range [expr {$register_bytes}] $block
set_property width 32 $block
foreach register $registers {
    lassign $register name offset access text fields
    set made [ipx::add_register $name $block]
    set_property address_offset $offset $made
    set_property size 32 $made
    set_property access $access $made
    set_property description $text $made
    foreach field $fields {
        lassign $field name low width text
        set part_of [ipx::add_field $name $made]
        set_property bit_offset $low $part_of
        set_property bit_width $width $part_of
        set_property access $access $part_of
        set_property description $text $part_of
    }
}

set space [ipx::add_address_space m_axi [ipx::current_core]]
set_property master_address_space_ref m_axi [interface m_axi]
set_property range 4G $space
set_property width $master_bits $space

set_property core_revision 1 [ipx::current_core]
ipx::create_xgui_files [ipx::current_core]
ipx::update_checksums [ipx::current_core]
ipx::check_integrity [ipx::current_core]
ipx::save_core [ipx::current_core]
close_project
