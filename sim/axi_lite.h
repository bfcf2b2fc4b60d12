// AXI4-Lite master of the register port: one transaction at a time.
#pragma once

#include "axi_memory.h"

class LiteMaster {
public:
    LiteMaster(Vdut& dut, uint64_t seed, uint32_t stall)
        : dut(dut), random(seed ^ 0x5bd1e995), stall(stall) {
        reset();
    }

    uint32_t data = 0;  // of the last read
    unsigned response = 0;  // of the last transaction

    bool busy() const { return waiting; }

    void reset() {
        waiting = address_left = data_left = false;
        dut.s_axil_awvalid = dut.s_axil_wvalid = dut.s_axil_arvalid = 0;
        dut.s_axil_bready = dut.s_axil_rready = 0;
    }

    void write(uint32_t address, uint32_t value) {
        writing = address_left = data_left = waiting = true;
        dut.s_axil_awaddr = address;
        dut.s_axil_awprot = 0;
        dut.s_axil_wdata = value;
        dut.s_axil_wstrb = 15;
    }

    void read(uint32_t address) {
        writing = data_left = false;
        address_left = waiting = true;
        dut.s_axil_araddr = address;
        dut.s_axil_arprot = 0;
    }

    void drive() {
        // a valid may come late, but once there it stays until it is accepted
        if (!random.chance(stall)) {
            if (address_left) (writing ? dut.s_axil_awvalid : dut.s_axil_arvalid) = 1;
        }
        if (data_left && !random.chance(stall)) dut.s_axil_wvalid = 1;
        dut.s_axil_bready = writing && !random.chance(stall);
        dut.s_axil_rready = !writing && !random.chance(stall);
    }

    void sample() {
        address_taken = (dut.s_axil_awvalid && dut.s_axil_awready) ||
                        (dut.s_axil_arvalid && dut.s_axil_arready);
        data_taken = dut.s_axil_wvalid && dut.s_axil_wready;
        finished = false;
        if (dut.s_axil_bvalid && dut.s_axil_bready) {
            response = dut.s_axil_bresp;
            finished = true;
        }
        if (dut.s_axil_rvalid && dut.s_axil_rready) {
            response = dut.s_axil_rresp;
            data = dut.s_axil_rdata;
            finished = true;
        }
    }

    void advance() {
        if (address_taken) {
            address_left = false;
            dut.s_axil_awvalid = dut.s_axil_arvalid = 0;
        }
        if (data_taken) {
            data_left = false;
            dut.s_axil_wvalid = 0;
        }
        if (finished) {
            waiting = false;
            dut.s_axil_bready = dut.s_axil_rready = 0;
        }
    }

private:
    Vdut& dut;
    Random random;
    const uint32_t stall;
    bool waiting = false, writing = false, address_left = false, data_left = false;
    bool address_taken = false, data_taken = false, finished = false;
};
