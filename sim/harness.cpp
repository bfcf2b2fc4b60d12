// The accelerator on a board of memory and registers, with a plain C interface for Python.
//
// A cycle: the harness sets the inputs, the design settles with the clock low, both sides sample
// the handshakes, the clock rises. Nothing but the width of the data bus depends on the design.

#include <chrono>
#include <memory>
#include <vector>

#include "axi_lite.h"
#include "axi_memory.h"
#include "recording.h"
#include "verilated.h"
#if VM_TRACE
#include "verilated_vcd_c.h"
#endif

namespace {

enum Status : int { LIMIT = 0, INTERRUPT = 1, VIOLATION = 2, TIMEOUT = 3, ASSERTION = 4 };

struct HarnessOptions {
    MemoryOptions memory;
    uint32_t timeline;
    uint32_t record;
    const char* waves_path;  // null: none
    const char* waves_scope;  // empty: everything
    uint64_t waves_start;
    uint64_t waves_stop;
};

struct Change {
    uint64_t cycle;
    uint64_t activity;
};

// Memories and registers without a reset value start with bits that depend on the seed.
std::unique_ptr<VerilatedContext> make_context(uint64_t seed) {
    auto context = std::make_unique<VerilatedContext>();
    context->fatalOnError(false);  // a failed assertion must not end Python
    context->randReset(2);
    context->randSeed(1 + static_cast<int>(seed % 0x7fffffff));
    return context;
}

// Inputs that never change, and all others at rest.
void rest(Vdut& dut) {
    dut.clk = 0;
    dut.s_axil_awaddr = dut.s_axil_wdata = dut.s_axil_araddr = 0;
    dut.s_axil_awprot = dut.s_axil_arprot = 0;
    dut.s_axil_wstrb = 15;
    dut.m_axi_bid = dut.m_axi_rid = 0;
    std::memset(&dut.m_axi_rdata, 0, AxiMemory::BEAT);
    unpack_control(dut, 1);
}

class Harness {
public:
    explicit Harness(const HarnessOptions& options)
        : options(options),
          context(make_context(options.memory.seed)),
          dut(std::make_unique<Vdut>(context.get(), "TOP")),
          memory((rest(*dut), *dut), options.memory),
          lite(*dut, options.memory.seed, options.memory.stall) {
        open_waves();
    }

    ~Harness() {
#if VM_TRACE
        if (waves) waves->close();
#endif
        dut->final();
    }

    // The design may register its reset, so nothing moves until one cycle after it.
    void reset(uint64_t cycles) {
        memory.reset();
        lite.reset();
        for (uint64_t n = 0; n <= cycles; ++n) {
            dut->rst = n < cycles;
            tick(true);
        }
    }

    Status run(uint64_t cycles, bool until_irq) {
        for (uint64_t n = 0; n < cycles; ++n) {
            if (broken()) return reason();
            if (until_irq && dut->irq) return INTERRUPT;
            tick(false);
        }
        if (broken()) return reason();
        return dut->irq ? INTERRUPT : LIMIT;
    }

    Status finish_lite(uint64_t max_cycles) {
        for (uint64_t n = 0; n < max_cycles && lite.busy(); ++n) {
            tick(false);
            if (broken()) return reason();
        }
        if (!lite.busy()) return LIMIT;
        lite.reset();
        return TIMEOUT;
    }

    const HarnessOptions options;
    std::unique_ptr<VerilatedContext> context;
    std::unique_ptr<Vdut> dut;
    AxiMemory memory;
    LiteMaster lite;
    Recording recording;
    std::vector<Change> changes;
    uint64_t cycle = 0;

private:
    bool broken() const { return context->gotError() || !memory.violation().empty(); }

    Status reason() const { return context->gotError() ? ASSERTION : VIOLATION; }

    void tick(bool in_reset) {
        if (!in_reset) {
            memory.drive(cycle);
            if (lite.busy()) lite.drive();
        }
        dut->clk = 0;
        dut->eval();
        dump(0);
        if (options.record) recording.add(*dut);
        if (options.timeline) watch();
        if (!in_reset) {
            memory.sample(cycle);
            if (lite.busy()) lite.sample();
        }
        dut->clk = 1;
        dut->eval();
        dump(1);
        if (!in_reset) {
            memory.advance();
            if (lite.busy()) lite.advance();
        }
        ++cycle;
    }

    void watch() {
        const uint64_t now = dut->activity;
        if (changes.empty() || now != changes.back().activity) changes.push_back({cycle, now});
    }

#if VM_TRACE
    void open_waves() {
        if (!options.waves_path) return;
        context->traceEverOn(true);
        waves = std::make_unique<VerilatedVcdC>();
        dut->trace(waves.get(), 99);
        if (*options.waves_scope) waves->dumpvars(99, options.waves_scope);
        waves->open(options.waves_path);
    }

    void dump(unsigned half) {
        if (waves && cycle >= options.waves_start && cycle < options.waves_stop)
            waves->dump(2 * cycle + half);
    }

    std::unique_ptr<VerilatedVcdC> waves;
#else
    void open_waves() {}
    void dump(unsigned) {}
#endif
};

}  // namespace

#define API extern "C" __attribute__((visibility("default")))

API unsigned transept_bus_bytes() { return AxiMemory::BEAT; }

API Harness* transept_create(const HarnessOptions* options) { return new Harness(*options); }

API void transept_destroy(Harness* harness) { delete harness; }

API void transept_reset(Harness* harness, uint64_t cycles) { harness->reset(cycles); }

API int transept_run(Harness* harness, uint64_t cycles, int until_irq) {
    return harness->run(cycles, until_irq);
}

API int transept_write(Harness* harness, uint32_t address, uint32_t value, uint64_t max_cycles) {
    harness->lite.write(address, value);
    return harness->finish_lite(max_cycles);
}

API int transept_read(Harness* harness, uint32_t address, uint64_t max_cycles) {
    harness->lite.read(address);
    return harness->finish_lite(max_cycles);
}

API uint32_t transept_lite_data(const Harness* harness) { return harness->lite.data; }

API unsigned transept_lite_response(const Harness* harness) { return harness->lite.response; }

API uint64_t transept_cycle(const Harness* harness) { return harness->cycle; }

API int transept_irq(const Harness* harness) { return harness->dut->irq; }

API void transept_faults(Harness* harness, const MemoryFaults* faults) {
    harness->memory.faults = *faults;
}

API void transept_counters(Harness* harness, MemoryCounters* counters) {
    *counters = harness->memory.counters();
}

API const char* transept_violation(const Harness* harness) {
    return harness->memory.violation().c_str();
}

API uint64_t transept_timeline(const Harness* harness, const Change** changes) {
    *changes = harness->changes.data();
    return harness->changes.size();
}

API uint64_t transept_recording(const Harness* harness, const uint32_t** words) {
    *words = harness->recording.data().data();
    return harness->recording.data().size();
}

// Seconds that a recording takes on the bare model; `irq` is what it ends with.
API double transept_replay(const uint32_t* words, uint64_t size, uint64_t seed, uint64_t* cycles,
                           int* irq) {
    auto context = make_context(seed);
    Vdut dut{context.get(), "TOP"};
    rest(dut);
    const auto start = std::chrono::steady_clock::now();
    *cycles = play(dut, words, words + size);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    *irq = dut.irq;
    dut.final();
    return taken.count();
}
