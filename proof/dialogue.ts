/**
 * What this CPU reads from the host's memory, what it writes there, and what stage 1 tells it.
 *
 * Host memory is no state of ours: others write to it at any time. What a function is to take from it, and to leave in it, is said of two sets
 * of pairs of a physical address and a value: what was `seen`, and what was `told`. A contract either says all that a function writes, with
 * `tells`, or what it writes at least, with `writes`; to read more than it says is never a harm. Where a contract says nothing of one of them,
 * nothing is known but that the set only grows.
 */
import {
  and,
  bv,
  type Clause,
  type Contract,
  callees,
  concat,
  extract,
  implies,
  type LoopContract,
  type Module,
  ne,
  type State,
  type Term,
  zext,
} from "../microv/index.ts";
import type { Registers } from "./machine.ts";
import { holds, read, write } from "./state.ts";

const pair = (pa: Term, value: Term): Term => concat(pa, zext(value, 64));
const YES = bv(1, 1);

const heardKey = (pa: Term, bytes: number): Term => concat(pa, bv(Math.log2(bytes), 2));

const walk = (va: Term, pageNumber: Term): Term => concat(extract(63, 12, va), pageNumber);

/** Stage 1 in force translates `va` to the page with this number, or gives none: 0. */
export const walks = (state: State, va: Term, pageNumber: Term): void =>
  write(state, "walked", walk(va, pageNumber), YES);

/** The function finds out by stage 1 that `va` is in the page with this number, or in none: 0. */
export const finds = (c: Clause, va: Term, pageNumber: Term, condition?: Term): void =>
  c.include("walked", walk(va, pageNumber), condition);

/** Whether stage 1 translated `va` so. */
export const wasWalked = (state: State, va: Term, pageNumber: Term): Term =>
  holds(state, "walked", walk(va, pageNumber));

/** Host memory gives `value`, of 8 to 64 bits, at `pa`. */
export function sees(state: State, pa: Term, value: Term): void {
  write(state, "seen", pair(pa, value), YES);
  write(state, "heard", heardKey(pa, value.width / 8), zext(value, 64));
}

/** What was read last of `bytes` bytes at `pa`, in a function's own code since its last call of another. 64 bits. */
export const heard = (state: State, pa: Term, bytes: number): Term =>
  read(state, "heard", heardKey(pa, bytes));

/**
 * What the function reads of `bytes` bytes at `pa`, if `condition`: where it reads there more than once, and calls no function afterwards, the last of it.
 * 64 bits.
 */
export function hears(c: Clause, pa: Term, bytes: number, condition?: Term): Term {
  const value = c.choose("what is read", bytes * 8, (after) =>
    extract(bytes * 8 - 1, 0, heard(after, pa, bytes)),
  );
  reads(c, pa, value, condition);
  return zext(value, 64);
}

/** Whether no two of these places are one: the host's profile may say anything. */
export const apart = (...places: readonly Term[]): Term =>
  and(...places.flatMap((one, n) => places.slice(n + 1).map((other) => ne(one, other))));

/** The function reads `value`, of up to 64 bits, at `pa`, if `condition`. */
export const reads = (c: Clause, pa: Term, value: Term, condition?: Term): void =>
  c.include("seen", pair(pa, value), condition);

/** `value`, of up to 64 bits, is written at `pa`, if `condition`. */
export const tells = (state: State, pa: Term, value: Term, condition?: Term): void =>
  write(state, "told", pair(pa, value), YES, condition);

/** The function writes `value`, of up to 64 bits, at `pa`, and perhaps more, if `condition`. */
export const writes = (c: Clause, pa: Term, value: Term, condition?: Term): void =>
  c.include("told", pair(pa, value), condition);

/** Whether `value` was read at `pa`. */
export const wasSeen = (state: State, pa: Term, value: Term): Term => holds(state, "seen", pair(pa, value));

/** Whether `value` was written at `pa`. */
export const wasTold = (state: State, pa: Term, value: Term): Term => holds(state, "told", pair(pa, value));

/** The register gets what host memory holds at `pa`, if `condition`. */
export function loads(c: Clause, registers: Registers, name: string, pa: Term, condition?: Term): void {
  const value = c.choose(name, 64, (after) => registers.get(after, name));
  reads(c, pa, value, condition);
  registers.set(c.state, name, value, condition);
}

/** The primitives that change what FP and SVE instructions do, from the next ISB on. */
export const FP_CONTROLS = /^msr_(cptr|zcr)_el2$/;
/** Writes of what starts and stops a profiling or trace buffer. */
export const BUFFER_CONTROLS = /^msr_(pmscr|trfcr)_el1$/;

const HOST_READS = /^(host_read|fp_load_host|sve_load_host)/;

/** What functions leave beside their effects, by the primitives and functions that leave it. */
const TRACES = {
  /** Sets of what was read, found and written: they only grow. */
  growing: {
    seen: HOST_READS,
    walked: /^at_s1e1r$/,
    told: /^(host_write|fp_save_host|sve_save_host)/,
  },
  /** What only a function's own code may rely on. */
  passing: { heard: HOST_READS, trail: /^memory\/proposal$/ },
  /** Ghosts by which functions leave word of what they did. */
  notes: {
    named: /^(debug\/guestDebug|vm\/slotOfKvm)$/,
    sought: /^vm\/slotOfKvm$/,
    flushedTo: /^vm\/flushRange$/,
    forgetting: /^(tlbi_vmalle1|tlbi_alle1is|ic_iallu|ic_ialluis)$/,
    forgot: /^(dsb_nsh|dsb_ish)$/,
    flushedVmid: /^tlb\/tlbFlushVmid$/,
    adjusted: /^vcpu\/adjustPc$/,
    obtained: /^memory\/(mapForHost|withdraw|giveToHost)$/,
    lastOwner: /^memory\/ownerNow$/,
    exhausted: /^pool\/poolAlloc$/,
    fpUnsynchronized: FP_CONTROLS,
    bufferUnsynchronized: BUFFER_CONTROLS,
    profiling: /^(msr_pmscr_el1|psb_csync)$/,
    tracing: /^(msr_trfcr_el1|tsb_csync)$/,
  },
  /** Ghosts that functions may set to FALSE. */
  clearing: { fpUnsynchronized: /^isb$/, bufferUnsynchronized: /^isb$/ },
} as const;

/** The names of all functions that may call one of those that `isSource` accepts. */
function callersOf(module: Module, isSource: (name: string) => boolean): Set<string> {
  const found = new Map<string, boolean>();
  const visit = (f: Module["functions"][number]): boolean => {
    let reaches = found.get(f.name);
    if (reaches === undefined) {
      reaches =
        isSource(f.imported?.field ?? f.name) ||
        (!f.imported && callees(module, f).map(visit).includes(true));
      found.set(f.name, reaches);
    }
    return reaches;
  };
  module.functions.map(visit);
  return new Set([...found].flatMap(([name, reaches]) => (reaches ? [name] : [])));
}

/** For each function what it may leave, of that which `sources` leave. */
function tracesIn<Trace extends string>(
  module: Module,
  sources: Readonly<Record<Trace, RegExp>>,
): (name: string) => Trace[] {
  const leavers = (Object.keys(sources) as Trace[]).map((trace) => ({
    trace,
    names: callersOf(module, (name) => sources[trace].test(name)),
  }));
  return (name) => leavers.flatMap(({ trace, names }) => (names.has(name) ? [trace] : []));
}

const isSet = (state: State, ghostName: string): Term => state.ghosts[ghostName] as Term;

/** Completes contracts: where one says nothing of what its function reads from host memory, or writes there, anything may be read, or written. */
export function speaking(module: Module): (contract: Contract) => Contract {
  const growingIn = tracesIn(module, TRACES.growing);
  const passingIn = tracesIn(module, TRACES.passing);
  const notesIn = tracesIn(module, TRACES.notes);
  const clearingIn = tracesIn(module, TRACES.clearing);
  return (contract) => {
    const growing = growingIn(contract.function);
    const passing = passingIn(contract.function);
    const notes = notesIn(contract.function);
    const clearing = clearingIn(contract.function).filter((name) => !notes.includes(name));
    if (growing.length + passing.length + notes.length + clearing.length === 0) return contract;
    const any = (names: readonly string[]) => Object.fromEntries(names.map((name) => [name, "any" as const]));
    const complete = (loop: LoopContract): LoopContract => ({
      ...loop,
      everywhere: (now, entry) => ({
        ...loop.everywhere?.(now, entry),
        ...Object.fromEntries(
          growing.map((memory) => [
            `${memory} only grows`,
            { memory, at: (key: Term) => implies(holds(entry, memory, key), holds(now, memory, key)) },
          ]),
        ),
      }),
      invariant: (now, entry) => ({
        ...loop.invariant?.(now, entry),
        ...Object.fromEntries(
          clearing.map((name) => [`${name} is only cleared`, implies(isSet(now, name), isSet(entry, name))]),
        ),
      }),
      memories: { ...any([...growing, ...passing]), ...loop.memories },
      ghosts: { ...any([...notes, ...clearing]), ...loop.ghosts },
    });
    return {
      ...contract,
      loops: Object.fromEntries(
        Object.entries(contract.loops ?? {}).map(([n, loop]) => [
          n,
          "unroll" in loop ? loop : complete(loop),
        ]),
      ),
      spec(c) {
        const result = contract.spec(c);
        const isUnsaid = (name: string) => c.state.memories[name] === c.before.memories[name];
        for (const name of growing.filter(isUnsaid)) c.grow(name);
        for (const name of passing) c.havoc(name);
        for (const name of clearing) {
          const stays = c.choose(name, 0, (after) => isSet(after, name));
          c.state.ghosts[name] = and(isSet(c.before, name), stays);
        }
        for (const name of notes) if (c.state.ghosts[name] === c.before.ghosts[name]) c.havocGhost(name);
        return result;
      },
    };
  };
}
