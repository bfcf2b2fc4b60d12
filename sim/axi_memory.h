// DRAM behind an AXI4 port: bandwidth, latency, order, and a judge of the protocol.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <string>
#include <type_traits>

#include "Vdut.h"

constexpr uint64_t NEVER = ~uint64_t{0};

// Everything that Python decides before the first cycle; the same order in native.py.
struct MemoryOptions {
    uint8_t* data;
    uint64_t base;
    uint64_t bytes;
    uint64_t seed;
    uint32_t rate_tenths;  // tenths of bytes per cycle, reads and writes together
    uint32_t read_latency;
    uint32_t read_jitter;  // up to this many cycles more, drawn for each burst
    uint32_t write_latency;
    uint32_t outstanding;  // bursts in flight, each way
    uint32_t stall;  // probability of refusing a cycle, each channel, in 1 / 65536
};

// Ways in which memory fails, each from a cycle on.
struct MemoryFaults {
    uint64_t hang_reads;
    uint64_t hang_writes;
    uint64_t error_reads;  // answer SLVERR
    uint64_t error_writes;
    uint64_t flip;  // once: invert the bit `flip_bit` of the byte at `flip_address`
    uint64_t flip_address;
    uint32_t flip_bit;
};

struct MemoryCounters {
    uint64_t read_bytes, write_bytes, read_bursts, write_bursts, in_flight;
};

class Random {
public:
    explicit Random(uint64_t seed) : state(seed * 0x9e3779b97f4a7c15ull + 1) {}

    uint32_t next() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        return static_cast<uint32_t>(state >> 32);
    }

    bool chance(uint32_t of_65536) { return of_65536 && (next() & 0xffff) < of_65536; }

private:
    uint64_t state;
};

class AxiMemory {
public:
    static constexpr unsigned BEAT = sizeof(std::remove_reference_t<decltype(Vdut::m_axi_wdata)>);
    static constexpr unsigned MAX_BEATS = 16;

    AxiMemory(Vdut& dut, const MemoryOptions& options)
        : dut(dut), opt(options), random(options.seed) {
        reset();
    }

    MemoryFaults faults{NEVER, NEVER, NEVER, NEVER, NEVER, 0, 0};

    const MemoryCounters& counters() {
        count.in_flight = reads.size() + writes.size();
        return count;
    }
    const std::string& violation() const { return complaint; }

    void reset() {
        reads.clear();
        writes.clear();
        filling = 0;
        address_stalled[0] = address_stalled[1] = data_stalled = false;
        dut.m_axi_arready = dut.m_axi_awready = dut.m_axi_wready = 0;
        dut.m_axi_rvalid = dut.m_axi_bvalid = 0;
    }

    // Set this cycle's inputs of the design; they depend on earlier cycles alone.
    void drive(uint64_t cycle) {
        if (cycle == faults.flip)
            opt.data[faults.flip_address - opt.base] ^= 1u << faults.flip_bit;
        tokens = std::min(tokens + opt.rate_tenths, TOKENS_MAX);
        dut.m_axi_arready = reads.size() < opt.outstanding && !random.chance(opt.stall);
        dut.m_axi_awready = writes.size() < opt.outstanding && !random.chance(opt.stall);

        const bool can_write = filling < writes.size() && !random.chance(opt.stall);
        const bool can_read = !dut.m_axi_rvalid && read_due(cycle) && !random.chance(opt.stall);
        const bool contended = can_read && can_write && dut.m_axi_wvalid && tokens < 2 * COST;
        bool write_granted = can_write;
        if (can_read && tokens >= COST && !(contended && read_was_last)) {
            offer_read(cycle);
            write_granted = can_write && tokens >= COST;
        }
        dut.m_axi_wready = write_granted && tokens >= COST;
        if (!dut.m_axi_bvalid && !writes.empty() && !random.chance(opt.stall)) respond(cycle);
    }

    // Take part in this cycle's handshakes, once the design's outputs have settled.
    void sample(uint64_t cycle) {
        accept_address(cycle, 0, dut.m_axi_arvalid, dut.m_axi_arready, dut.m_axi_araddr,
                       dut.m_axi_arlen, dut.m_axi_arsize, dut.m_axi_arburst);
        accept_address(cycle, 1, dut.m_axi_awvalid, dut.m_axi_awready, dut.m_axi_awaddr,
                       dut.m_axi_awlen, dut.m_axi_awsize, dut.m_axi_awburst);
        accept_data(cycle);
        read_taken = dut.m_axi_rvalid && dut.m_axi_rready;
        response_taken = dut.m_axi_bvalid && dut.m_axi_bready;
    }

    // After the clock edge: what was taken is no longer offered.
    void advance() {
        if (read_taken) {
            dut.m_axi_rvalid = 0;
            Read& burst = reads.front();
            if (++burst.index == burst.beats) reads.pop_front();
            read_taken = false;
        }
        if (response_taken) {
            dut.m_axi_bvalid = 0;
            writes.pop_front();
            --filling;
            response_taken = false;
        }
    }

private:
    static constexpr uint32_t COST = 10 * BEAT;
    static constexpr uint32_t TOKENS_MAX = 4 * COST;

    struct Read {
        uint64_t due;
        uint32_t address;
        unsigned beats, index;
        bool fetched;
        std::array<uint8_t, MAX_BEATS * BEAT> data;
    };

    struct Write {
        uint64_t due;
        uint32_t address;
        unsigned beats, index;
        bool stored;
        std::array<uint8_t, MAX_BEATS * BEAT> data;
        std::array<uint32_t, MAX_BEATS> strobes;
    };

    struct Address {
        uint32_t address;
        unsigned len, size, burst;
        bool operator==(const Address& other) const {
            return address == other.address && len == other.len && size == other.size &&
                   burst == other.burst;
        }
    };

    // AXI leaves the order of concurrent reads and writes open, so here it is drawn by lot.
    bool early() { return random.next() & 1; }

    bool read_due(uint64_t cycle) const {
        return !reads.empty() && reads.front().due <= cycle && cycle < faults.hang_reads;
    }

    void offer_read(uint64_t cycle) {
        Read& burst = reads.front();
        if (!burst.fetched) fetch(burst);
        std::memcpy(&dut.m_axi_rdata, &burst.data[burst.index * BEAT], BEAT);
        dut.m_axi_rlast = burst.index + 1 == burst.beats;
        dut.m_axi_rresp = cycle >= faults.error_reads ? 2 : 0;
        dut.m_axi_rid = 0;
        dut.m_axi_rvalid = 1;
        tokens -= COST;
        read_was_last = true;
        count.read_bytes += BEAT;
    }

    void fetch(Read& burst) {
        std::memcpy(burst.data.data(), opt.data + (burst.address - opt.base), burst.beats * BEAT);
        burst.fetched = true;
    }

    void store(Write& burst) {
        uint8_t* to = opt.data + (burst.address - opt.base);
        for (unsigned beat = 0; beat < burst.beats; ++beat)
            for (unsigned lane = 0; lane < BEAT; ++lane)
                if (burst.strobes[beat] >> lane & 1)
                    to[beat * BEAT + lane] = burst.data[beat * BEAT + lane];
        burst.stored = true;
    }

    // Writes of one master take effect in their order.
    void store_all() {
        for (size_t at = 0; at < filling; ++at)
            if (!writes[at].stored) store(writes[at]);
    }

    void respond(uint64_t cycle) {
        Write& burst = writes.front();
        if (burst.index < burst.beats || burst.due > cycle || cycle >= faults.hang_writes) return;
        if (!burst.stored) store(burst);
        dut.m_axi_bresp = cycle >= faults.error_writes ? 2 : 0;
        dut.m_axi_bid = 0;
        dut.m_axi_bvalid = 1;
    }

    void accept_address(uint64_t cycle, unsigned way, bool valid, bool ready, uint32_t address,
                        unsigned len, unsigned size, unsigned burst) {
        const char* channel = way ? "AW" : "AR";
        const Address now{address, len, size, burst};
        if (address_stalled[way] && !valid) return complain(cycle, channel, "VALID dropped before READY");
        if (address_stalled[way] && !(now == offered[way]))
            return complain(cycle, channel, "changed before READY");
        offered[way] = now;
        address_stalled[way] = valid && !ready;
        if (!valid || !ready || !legal(cycle, channel, now)) return;
        if (way) {
            writes.push_back({0, address, len + 1, 0, false, {}, {}});
            ++count.write_bursts;
        } else {
            const uint32_t jitter = opt.read_jitter ? random.next() % (opt.read_jitter + 1) : 0;
            reads.push_back({cycle + opt.read_latency + jitter, address, len + 1, 0, false, {}});
            if (early()) fetch(reads.back());
            ++count.read_bursts;
        }
    }

    bool legal(uint64_t cycle, const char* channel, const Address& now) {
        const uint64_t bytes = uint64_t{now.len + 1} * BEAT;
        const char* fault = nullptr;
        if (now.len + 1 > MAX_BEATS) fault = "burst longer than 16 beats";
        else if (now.burst != 1) fault = "burst type is not INCR";
        else if (1u << now.size != BEAT) fault = "beat narrower or wider than the bus";
        else if (now.address % BEAT) fault = "address not aligned to the bus";
        else if (now.address / 4096 != (now.address + bytes - 1) / 4096) fault = "crosses 4 KiB";
        else if (now.address < opt.base || now.address + bytes > opt.base + opt.bytes)
            fault = "outside of DRAM";
        if (!fault) return true;
        char text[64];
        std::snprintf(text, sizeof text, ", address 0x%08x, %u beats", now.address, now.len + 1);
        complain(cycle, channel, std::string(fault) + text);
        return false;
    }

    void accept_data(uint64_t cycle) {
        const bool valid = dut.m_axi_wvalid, ready = dut.m_axi_wready;
        if (data_stalled) {
            if (!valid) return complain(cycle, "W", "VALID dropped before READY");
            if (std::memcmp(last_data.data(), &dut.m_axi_wdata, BEAT) ||
                last_strobe != dut.m_axi_wstrb || last_last != dut.m_axi_wlast)
                return complain(cycle, "W", "changed before READY");
        }
        data_stalled = valid && !ready;
        if (data_stalled) {
            std::memcpy(last_data.data(), &dut.m_axi_wdata, BEAT);
            last_strobe = dut.m_axi_wstrb;
            last_last = dut.m_axi_wlast;
        }
        if (valid && ready) take_beat(cycle);
    }

    void take_beat(uint64_t cycle) {
        Write& burst = writes[filling];
        std::memcpy(&burst.data[burst.index * BEAT], &dut.m_axi_wdata, BEAT);
        burst.strobes[burst.index] = dut.m_axi_wstrb;
        count.write_bytes += __builtin_popcount(dut.m_axi_wstrb);
        tokens -= COST;
        read_was_last = false;
        const bool last = ++burst.index == burst.beats;
        if (last != static_cast<bool>(dut.m_axi_wlast))
            return complain(cycle, "W", last ? "WLAST missing" : "WLAST before the last beat");
        if (!last) return;
        burst.due = cycle + opt.write_latency;
        ++filling;
        if (early()) store_all();
    }

    void complain(uint64_t cycle, const char* channel, const std::string& what) {
        if (complaint.empty())
            complaint = "cycle " + std::to_string(cycle) + ", " + channel + ": " + what;
    }

    Vdut& dut;
    const MemoryOptions opt;
    Random random;
    MemoryCounters count{};
    std::string complaint;
    std::deque<Read> reads;
    std::deque<Write> writes;
    size_t filling = 0;  // the write burst that gets the next data beat
    uint32_t tokens = TOKENS_MAX;
    bool read_was_last = false, read_taken = false, response_taken = false;
    bool address_stalled[2]{}, data_stalled = false;
    Address offered[2]{};
    std::array<uint8_t, BEAT> last_data{};
    uint32_t last_strobe = 0;
    bool last_last = false;
};
