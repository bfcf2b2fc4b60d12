# The block design of a Zynq UltraScale+. Sourced by build.tcl.
#
# Its ports are AXI4; widths of addresses and IDs differ, which SmartConnect settles. One clock; one
# reset for everything behind the processing system, which only its pl_resetn0 can pull: at power-on
# and when logic is loaded. Software resets the accelerator by CONTROL.soft_reset, which ends every
# burst first.

set ps [cell zynq_ultra_ps_e $system $system_settings]
if {[llength $boards]} {
    apply_bd_automation -rule xilinx.com:bd_rule:zynq_ultra_ps_e \
        -config {apply_board_preset 1} $ps
}
configure $ps [list \
    PSU__USE__M_AXI_GP0 1 PSU__MAXIGP0__DATA_WIDTH 32 \
    PSU__USE__M_AXI_GP1 0 PSU__USE__M_AXI_GP2 0 \
    PSU__USE__S_AXI_GP2 1 PSU__SAXIGP2__DATA_WIDTH $data_bits \
    PSU__FPGA_PL0_ENABLE 1 PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ $clock_mhz \
    PSU__USE__IRQ0 1]

create_bd_cell -type ip -vlnv $vlnv $instance
# holds the reset for 16 cycles of the clock, and ends that of the buses first
cell proc_sys_reset reset
cell smartconnect to_registers {NUM_SI 1 NUM_MI 1}
cell smartconnect to_memory {NUM_SI 1 NUM_MI 1}

foreach {from to} [list \
    $system/M_AXI_HPM0_FPD to_registers/S00_AXI \
    to_registers/M00_AXI $instance/s_axil \
    $instance/m_axi to_memory/S00_AXI \
    to_memory/M00_AXI $system/S_AXI_HP0_FPD] {
    connect_bd_intf_net [get_bd_intf_pins $from] [get_bd_intf_pins $to]
}
foreach {from pins} [list \
    $system/pl_clk0 [list \
        $system/maxihpm0_fpd_aclk $system/saxihp0_fpd_aclk reset/slowest_sync_clk \
        to_registers/aclk to_memory/aclk $instance/aclk] \
    $system/pl_resetn0 reset/ext_reset_in \
    reset/interconnect_aresetn {to_registers/aresetn to_memory/aresetn} \
    reset/peripheral_aresetn $instance/aresetn \
    $instance/interrupt $system/pl_ps_irq0] {
    foreach to $pins {
        connect_bd_net [get_bd_pins $from] [get_bd_pins $to]
    }
}

assign_bd_address -offset $register_base -range $register_bytes \
    -target_address_space [get_bd_addr_spaces $system/Data] \
    [get_bd_addr_segs $instance/s_axil/$register_block] -force
# addresses of the accelerator have 32 bits: the lower part of memory, and nothing else
assign_bd_address -offset 0 -range $memory_bytes \
    -target_address_space [get_bd_addr_spaces $instance/m_axi] \
    [get_bd_addr_segs $system/SAXIGP2/HP0_DDR_LOW] -force
foreach segment [get_bd_addr_segs -quiet $system/SAXIGP2/*] {
    if {![string match */HP0_DDR_LOW $segment]} {
        exclude_bd_addr_seg -quiet $segment \
            -target_address_space [get_bd_addr_spaces $instance/m_axi]
    }
}
