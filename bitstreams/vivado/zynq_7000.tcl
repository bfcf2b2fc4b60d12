# The block design of a Zynq-7000. Sourced by build.tcl.
#
# Its ports are AXI3: bursts of at most 16 beats, which is all that the accelerator sends, and write
# data with an ID, which the converter adds. One clock; one reset for everything behind the
# processing system, which only its FCLK_RESET0_N can pull: at power-on and when logic is loaded.
# Software resets the accelerator by CONTROL.soft_reset, which ends every burst first.

set ps [cell processing_system7 $system $system_settings]
apply_bd_automation -rule xilinx.com:bd_rule:processing_system7 -config [list \
    make_external "FIXED_IO, DDR" apply_board_preset [expr {[llength $boards] > 0}] \
    Master Disable Slave Disable] $ps
configure $ps [list \
    PCW_USE_M_AXI_GP0 1 \
    PCW_USE_S_AXI_HP0 1 PCW_S_AXI_HP0_DATA_WIDTH $data_bits \
    PCW_EN_CLK0_PORT 1 PCW_FPGA0_PERIPHERAL_FREQMHZ $clock_mhz PCW_EN_RST0_PORT 1 \
    PCW_USE_FABRIC_INTERRUPT 1 PCW_IRQ_F2P_INTR 1]

create_bd_cell -type ip -vlnv $vlnv $instance
# holds the reset for 16 cycles of the clock, and ends that of the buses first
cell proc_sys_reset reset
cell axi_protocol_converter to_registers {SI_PROTOCOL AXI3 MI_PROTOCOL AXI4LITE}
cell axi_protocol_converter to_memory {SI_PROTOCOL AXI4 MI_PROTOCOL AXI3}

foreach {from to} [list \
    $system/M_AXI_GP0 to_registers/S_AXI \
    to_registers/M_AXI $instance/s_axil \
    $instance/m_axi to_memory/S_AXI \
    to_memory/M_AXI $system/S_AXI_HP0] {
    connect_bd_intf_net [get_bd_intf_pins $from] [get_bd_intf_pins $to]
}
foreach {from pins} [list \
    $system/FCLK_CLK0 [list \
        $system/M_AXI_GP0_ACLK $system/S_AXI_HP0_ACLK reset/slowest_sync_clk \
        to_registers/aclk to_memory/aclk $instance/aclk] \
    $system/FCLK_RESET0_N reset/ext_reset_in \
    reset/interconnect_aresetn {to_registers/aresetn to_memory/aresetn} \
    reset/peripheral_aresetn $instance/aresetn \
    $instance/interrupt $system/IRQ_F2P] {
    foreach to $pins {
        connect_bd_net [get_bd_pins $from] [get_bd_pins $to]
    }
}

assign_bd_address -offset $register_base -range $register_bytes \
    -target_address_space [get_bd_addr_spaces $system/Data] \
    [get_bd_addr_segs $instance/s_axil/$register_block] -force
assign_bd_address -offset 0 -range $memory_bytes \
    -target_address_space [get_bd_addr_spaces $instance/m_axi] \
    [get_bd_addr_segs $system/S_AXI_HP0/HP0_DDR_LOWOCM] -force
