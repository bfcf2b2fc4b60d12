"""Several clients on one memory port."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import Flow, In, Out

from transept.rtl.memory.bank import any_of, select

__all__ = ["PortArbiter"]


class PortArbiter(wiring.Component):
    """Clients of a memory port signature (``en``, ``ready``, addr, data) take turns.

    The choice is combinational and moves on after every offer, accepted or not, so that a client
    whose bank is taken does not hold up the others. With ``urgent``, client 0 takes no turns but
    goes first always. Read data goes to all: the client whose request was accepted knows when it
    comes.

    Members
    -------
    clients : In(signature).array(count)
    port : Out(signature)
    """

    def __init__(self, signature: wiring.Signature, count: int, *, urgent: bool = False) -> None:
        self._signature, self._count, self._urgent = signature, count, urgent
        super().__init__({"clients": In(signature).array(count), "port": Out(signature)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        clients, port = [self.clients[i] for i in range(self._count)], self.port
        chosen = self._choose(m, [client.en for client in clients])
        m.d.comb += port.en.eq(any_of([client.en for client in clients]))
        for number, client in enumerate(clients):
            m.d.comb += client.ready.eq(port.ready & (chosen == number))
        if self._urgent:
            m.d.comb += clients[0].ready.eq(port.ready)

        for name, member in self._signature.members.items():
            if member.flow is Flow.In and name != "ready":
                m.d.comb += [getattr(client, name).eq(getattr(port, name)) for client in clients]
            elif member.flow is Flow.Out and name != "en":
                values = [Value.cast(getattr(client, name)) for client in clients]
                m.d.comb += Value.cast(getattr(port, name)).eq(select(values, chosen))
        return m

    def _choose(self, m: Module, requests: list[Value]) -> Signal:
        """The first client after the last one that asks."""
        turns = range(int(self._urgent), self._count)
        chosen, last = Signal(range(self._count)), Signal(range(self._count), init=turns[0])
        m.d.comb += chosen.eq(last)
        with m.Switch(last):
            for number in turns:
                after = [turn for turn in turns if turn > number]
                before = [turn for turn in turns if turn < number]
                with m.Case(number):
                    for candidate in reversed(after + before):
                        with m.If(requests[candidate]):
                            m.d.comb += chosen.eq(candidate)
        if self._urgent:
            with m.If(requests[0]):
                m.d.comb += chosen.eq(0)
        with m.If(any_of([requests[turn] for turn in turns]) & (chosen >= turns[0])):
            m.d.sync += last.eq(chosen)
        return chosen
