/** Tracing for people: an event changes nothing but the ring, and a panic is the end. */
import {
  add,
  and,
  bv,
  type Call,
  type Contract,
  concat,
  eq,
  extract,
  implies,
  or,
  type Term,
  zext,
} from "../microv/index.ts";
import { constants, field } from "./layout.ts";
import { cpuField, fieldOf } from "./percpu.ts";
import { together } from "./profile.ts";
import { read, word } from "./state.ts";
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

const panic = constants("trace.ts", "Panic", 32);

/** Why a function ends it all. */
const PANICS: Record<string, readonly string[]> = {
  "boot/setupCpu": ["UNSUPPORTED_CPU"],
  "top/boot": ["BOOT_INFO", "UNSUPPORTED_CPU", "UNEXPECTED_CPU"],
  "top/core_trap": ["EL2_EXCEPTION"],
};

/** The contract with what it owes where it traces: an event of its own, with no more values than the event has. */
export function traced(contract: Contract): Contract {
  const events = EVENTS[contract.function] ?? [];
  const panics = PANICS[contract.function] ?? [];
  if (events.length + panics.length === 0) return contract;
  const owes = (call: Call) => {
    const [, kind, ...values] = call.args as readonly Term[];
    const is = (name: string) =>
      and(eq(kind as Term, event(name)), ...values.slice(VALUES[name]).map((value) => eq(value, bv(0, 64))));
    call.oblige("the event is one of this function's", or(...events.map(is)));
  };
  const owesPanic = (call: Call) => {
    const reason = call.args[1] as Term;
    call.oblige("the panic is one of this function's", or(...panics.map((name) => eq(reason, panic(name)))));
  };
  const own = { "trace/trace": owes, "trace/traceExit": owes, "trace/panic": owesPanic };
  return { ...contract, uses: together(own, contract.uses ?? {}) };
}

export function traceContracts({ m, registers }: Core): Contract[] {
  // The ring, the count of events and the panic record hold nothing that the core reads: no CPU keeps what is there.
  const ring = m.layout.constant("TRACE_RING");
  const record = {
    parameters: ["cpu", "kind", "a", "b", "c"],
    founding: true,
    forms: { 0: () => m.area },
  };
  return [
    {
      // Records an event: in the slot that its number gives, its number, CPU and kind, then three values.
      ...record,
      function: "trace/trace",
      spec(c) {
        const [, kind, ...values] = c.args as [Term, Term, ...Term[]];
        const index = cpuField(c.before, m, "index");
        const [low, lowIndex] = [kind, index].map((value) => extract(15, 0, value)) as [Term, Term];
        const fit = and(eq(zext(low, 32), kind), eq(zext(lowIndex, 64), index));
        c.show("it is written down", (after) => {
          const [slot, sequence] = after.locals.slice(5) as [Term, Term];
          const at = (n: number) => read(after, "linear", add(extract(31, 3, slot), bv(n, 29)));
          const place = add(bv(ring, 32), concat(bv(0, 17), extract(9, 0, sequence), bv(0, 5)));
          const head = eq(at(0), concat(sequence, lowIndex, low));
          const said = and(...values.map((value, n) => eq(at(n + 1), value)));
          return and(eq(slot, place), implies(fit, head), said);
        });
      },
    },
    {
      // Records an event of the hot path, if the boot tool asked for it.
      ...record,
      function: "trace/traceExit",
      spec() {},
    },
    {
      // Writes down where the core stands; nothing happens on this CPU any more.
      function: "trace/panic",
      parameters: ["cpu", "reason", "detail"],
      founding: true,
      forms: { 0: () => m.area },
      uses: {
        halt: (call, [, reason, detail]) => {
          const is = (name: string, value: Term) =>
            eq(word(call.state, m.layout.constant("PANIC_RECORD") + field.panicRecord(name)), value);
          const registersAre = ["esr_el2", "far_el2", "hpfar_el2", "elr_el2", "spsr_el2"].map((name) =>
            is(fieldOf(name), registers.get(call.state, name)),
          );
          const said = and(is("reason", zext(reason as Term, 64)), is("detail", detail as Term));
          call.oblige("it is written down", and(said, ...registersAre));
        },
      },
      spec: (c) => c.diverges(),
    },
  ];
}
