"""Several clients on one memory port."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
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

    With ``ahead`` it was decided a cycle before whose turn it is, so that no client's ``ready``
    depends on the request of another, but for that of an urgent one: a client that was not the last
    one waits a cycle for its turn, and a turn that is not used is lost.

    Members
    -------
    clients : In(signature).array(count)
    held : In(bit for each client), it is refused, whoever is chosen
    port : Out(signature)
    """

    held: Signal

    def __init__(
        self, signature: wiring.Signature, count: int, *, urgent: bool = False, ahead: bool = False
    ) -> None:
        self._signature, self._count = signature, count
        self._urgent, self._ahead = urgent, ahead
        super().__init__(
            {"clients": In(signature).array(count), "held": In(count), "port": Out(signature)}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        clients, port = [self.clients[i] for i in range(self._count)], self.port
        requests = [client.en for client in clients]
        urgent = requests[0] if self._urgent else Const(0)
        turn, wins = self._take_turns(m, requests, urgent)
        chosen = Mux(urgent, 0, turn)
        m.d.comb += port.en.eq(select(requests, chosen) if self._ahead else any_of(requests))
        for number, client in enumerate(clients):
            accepts = wins[number] & ~urgent & ~self.held[number]
            m.d.comb += client.ready.eq(port.ready & accepts)
        if self._urgent:
            m.d.comb += clients[0].ready.eq(port.ready & ~self.held[0])

        for name, member in self._signature.members.items():
            if member.flow is Flow.In and name != "ready":
                m.d.comb += [getattr(client, name).eq(getattr(port, name)) for client in clients]
            elif member.flow is Flow.Out and name != "en":
                values = [Value.cast(getattr(client, name)) for client in clients]
                m.d.comb += Value.cast(getattr(port, name)).eq(select(values, chosen))
        return m

    def _take_turns(
        self, m: Module, requests: list[Value], urgent: Value
    ) -> tuple[Signal, list[Value]]:
        """The first client after the last one that asks; with ``ahead``, the one that was.

        As a number and, for each client, whether it is that one if it asks.
        """
        turns = range(int(self._urgent), self._count)
        following, last = Signal(range(self._count)), Signal(range(self._count), init=turns[0])
        first = Signal(self._count)  # of each client: no other one that comes before it asks
        m.d.comb += following.eq(last)
        with m.Switch(last):
            for number in turns:
                after = [turn for turn in turns if turn > number]
                order = [*after, *(turn for turn in turns if turn <= number)]
                with m.Case(number):
                    for place, candidate in reversed(list(enumerate(order))):
                        earlier = [requests[other] for other in order[:place]]
                        m.d.comb += first[candidate].eq(~any_of(earlier))
                        with m.If(requests[candidate]):
                            m.d.comb += following.eq(candidate)
        with m.If(~urgent):
            m.d.sync += last.eq(following)
        if not self._ahead:
            return following, list(first)
        # registers of their own, for ``last`` is late: it drives the multiplexer of a wide word
        wins = Signal(self._count, init=1 << turns[0])
        with m.If(~urgent):
            m.d.sync += wins.eq(Cat(following == number for number in range(self._count)))
        return last, list(wins)
