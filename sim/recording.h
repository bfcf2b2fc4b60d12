// Every input of the design in every cycle of a run, and a bare loop that plays them back.
#pragma once

#include <vector>

#include "axi_memory.h"

// The inputs that change often, in one word.
inline uint32_t pack_control(const Vdut& dut) {
    return dut.rst | dut.s_axil_awvalid << 1 | dut.s_axil_wvalid << 2 | dut.s_axil_bready << 3 |
           dut.s_axil_arvalid << 4 | dut.s_axil_rready << 5 | dut.m_axi_arready << 6 |
           dut.m_axi_awready << 7 | dut.m_axi_wready << 8 | dut.m_axi_bvalid << 9 |
           dut.m_axi_bresp << 10 | dut.m_axi_rvalid << 12 | dut.m_axi_rlast << 13 |
           dut.m_axi_rresp << 14;
}

inline void unpack_control(Vdut& dut, uint32_t control) {
    auto bits = [&control](unsigned width) {
        const uint32_t low = control & ((1u << width) - 1);
        control >>= width;
        return static_cast<uint8_t>(low);
    };
    dut.rst = bits(1);
    dut.s_axil_awvalid = bits(1);
    dut.s_axil_wvalid = bits(1);
    dut.s_axil_bready = bits(1);
    dut.s_axil_arvalid = bits(1);
    dut.s_axil_rready = bits(1);
    dut.m_axi_arready = bits(1);
    dut.m_axi_awready = bits(1);
    dut.m_axi_wready = bits(1);
    dut.m_axi_bvalid = bits(1);
    dut.m_axi_bresp = bits(2);
    dut.m_axi_rvalid = bits(1);
    dut.m_axi_rlast = bits(1);
    dut.m_axi_rresp = bits(2);
}

struct LiteInputs {
    uint32_t awaddr, wdata, araddr;
    bool operator!=(const LiteInputs& other) const {
        return awaddr != other.awaddr || wdata != other.wdata || araddr != other.araddr;
    }
};

// Runs of equal cycles: [control and flags, cycles, LiteInputs if changed, read data if changed].
class Recording {
public:
    static constexpr uint32_t LITE = 1u << 30, DATA = 1u << 31;

    void add(const Vdut& dut) {
        uint32_t head = pack_control(dut);
        const LiteInputs lite{dut.s_axil_awaddr, dut.s_axil_wdata, dut.s_axil_araddr};
        if (words.empty() || lite != last_lite) head |= LITE;
        if (words.empty() ||
            (dut.m_axi_rvalid && std::memcmp(last_data.data(), &dut.m_axi_rdata, BEAT)))
            head |= DATA;
        if (!words.empty() && head == control && words[repeats] != ~0u) {
            ++words[repeats];
            return;
        }
        control = head & ~(LITE | DATA);
        words.push_back(head);
        repeats = words.size();
        words.push_back(1);
        if (head & LITE) {
            last_lite = lite;
            append(&lite, sizeof lite);
        }
        if (head & DATA) {
            std::memcpy(last_data.data(), &dut.m_axi_rdata, BEAT);
            append(last_data.data(), BEAT);
        }
    }

    const std::vector<uint32_t>& data() const { return words; }

private:
    static constexpr unsigned BEAT = AxiMemory::BEAT;

    void append(const void* from, size_t bytes) {
        const size_t end = words.size();
        words.resize(end + bytes / sizeof(uint32_t));
        std::memcpy(&words[end], from, bytes);
    }

    std::vector<uint32_t> words;
    size_t repeats = 0;
    uint32_t control = 0;
    LiteInputs last_lite{};
    std::array<uint8_t, BEAT> last_data{};
};

// Play a recording; returns the number of cycles.
inline uint64_t play(Vdut& dut, const uint32_t* at, const uint32_t* end) {
    uint64_t cycles = 0;
    while (at < end) {
        const uint32_t head = at[0];
        const uint32_t repeats = at[1];
        at += 2;
        if (head & Recording::LITE) {
            dut.s_axil_awaddr = at[0];
            dut.s_axil_wdata = at[1];
            dut.s_axil_araddr = at[2];
            at += 3;
        }
        if (head & Recording::DATA) {
            std::memcpy(&dut.m_axi_rdata, at, AxiMemory::BEAT);
            at += AxiMemory::BEAT / sizeof(uint32_t);
        }
        unpack_control(dut, head);
        for (uint32_t cycle = 0; cycle < repeats; ++cycle) {
            dut.clk = 0;
            dut.eval();
            dut.clk = 1;
            dut.eval();
        }
        cycles += repeats;
    }
    return cycles;
}
