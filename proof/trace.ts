/** Tracing for people: an event changes nothing but the ring, and a panic is the end. */
import { and, bv, type Call, type Contract, eq, or, type Term } from "../microv/index.ts";
import { constants } from "./layout.ts";
import type { Core } from "./theory.ts";

const event = constants("trace.ts", "Event", 32);

/** How many of the three values of an event mean something; the others are 0. */
const VALUES: Record<string, number> = {
  BOOT: 3,
  CPU_ON: 3,
  HOST_CALL_REFUSED: 3,
  HOST_SMC_REFUSED: 3,
  HOST_ABORT_REFUSED: 3,
  PAGE_RETURNED: 2,
  VM_INIT: 2,
  VCPU_INIT: 3,
  VM_TEARDOWN: 2,
  MAP_REFUSED: 2,
  RUN_REFUSED: 2,
  GUEST_ENTER: 1,
  GUEST_EXIT: 3,
};

/** The events that a function records. */
const EVENTS: Record<string, readonly string[]> = {
  "top/boot": ["BOOT"],
  "psci/cpuOn": ["CPU_ON"],
  "psci/hostSmc": ["HOST_SMC_REFUSED"],
  "hosttrap/hostAbort": ["HOST_ABORT_REFUSED", "PAGE_RETURNED"],
  "hostcall/manage": ["VM_INIT", "VCPU_INIT", "VM_TEARDOWN"],
  "hostcall/vcpuRun": ["MAP_REFUSED", "RUN_REFUSED", "GUEST_ENTER"],
  "hostcall/hostCall": ["HOST_CALL_REFUSED"],
  "guesttrap/exitToHost": ["GUEST_EXIT"],
};

/** The contract with what it owes where it traces: an event of its own, with no more values than the event has. */
export function traced(contract: Contract): Contract {
  const events = EVENTS[contract.function];
  if (!events) return contract;
  const owes = (call: Call) => {
    const [, kind, ...values] = call.args as readonly Term[];
    const is = (name: string) =>
      and(eq(kind as Term, event(name)), ...values.slice(VALUES[name]).map((value) => eq(value, bv(0, 64))));
    call.oblige("the event is one of this function's", or(...events.map(is)));
  };
  const uses = ["trace/trace", "trace/traceExit"].map((name) => [
    name,
    (call: Call, args: readonly Term[]) => {
      owes(call);
      return contract.uses?.[name]?.(call, args);
    },
  ]);
  return { ...contract, uses: { ...contract.uses, ...Object.fromEntries(uses) } };
}

export function traceContracts({ m }: Core): Contract[] {
  // The ring, the count of events and the panic record hold nothing that the core reads: no CPU keeps what is there.
  const record = (name: string): Contract => ({
    function: `trace/${name}`,
    parameters: ["cpu", "kind", "a", "b", "c"],
    founding: true,
    forms: { 0: () => m.area },
    spec() {},
  });
  return [
    // Records an event.
    record("trace"),
    // Records an event of the hot path, if the boot tool asked for it.
    record("traceExit"),
    {
      // Writes down where the core stands; nothing happens on this CPU any more.
      function: "trace/panic",
      parameters: ["cpu", "reason", "detail"],
      founding: true,
      forms: { 0: () => m.area },
      spec: (c) => c.diverges(),
    },
  ];
}
