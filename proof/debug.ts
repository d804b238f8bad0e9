/** Breakpoint and watchpoint registers: the host's wait in this CPU's area while a guest's are in the machine. */
import {
  add,
  and,
  bor,
  bv,
  type Call,
  type Clause,
  type Contract,
  eq,
  implies,
  ite,
  ne,
  not,
  or,
  type State,
  sub,
  type Term,
  TRUE,
  ule,
  ult,
} from "../microv/index.ts";
import { heard, hears, loads, reads, tells } from "./dialogue.ts";
import { bringBack, putAway } from "./el1.ts";
import { vcpuField } from "./invariants.ts";
import { vcpuIndex } from "./linear.ts";
import type { Registers } from "./machine.ts";
import { areaKey, cpuField, cpuKey, thisCpu } from "./percpu.ts";
import { contextOf, requireVcpu, type Uses, useInPart, usesContext } from "./profile.ts";
import { vcpuForm } from "./records.ts";
import { ghost, isAligned, type Machine, read, setGhost, word, write } from "./state.ts";
import type { Core } from "./theory.ts";

const REGISTERS = 16;
/** Bytes of the registers of a kind. */
const BANK_BYTES = 8 * REGISTERS;
/** Kinds of registers, in the order of `HOST_DEBUG`: control and value of breakpoints, then of watchpoints. */
const BANKS = ["bcr", "bvr", "wcr", "wvr"] as const;
type Bank = (typeof BANKS)[number];

const nameOf = (bank: Bank, n: number) => `dbg${bank}${n}_el1`;
const numbers = Array.from({ length: REGISTERS }, (_, n) => n);
/** Every register, with its place in this CPU's area and whether the CPU has it. */
export function debugRegisters(
  state: State,
  m: Machine,
): { name: string; bank: Bank; n: number; place: Term; exists: Term }[] {
  const last = (bank: Bank) => cpuField(state, m, bank.startsWith("b") ? "lastBreakpoint" : "lastWatchpoint");
  return BANKS.flatMap((bank, b) =>
    numbers.map((n) => ({
      name: nameOf(bank, n),
      bank,
      n,
      place: areaKey(m, m.layout.constant("HOST_DEBUG") + 8 * REGISTERS * b + 8 * n),
      exists: ule(bv(n, 64), last(bank)),
    })),
  );
}

/** Whether a register is one that the guest brings. */
export function isGuestDebug(state: State, m: Machine, registers: Registers, key: Term): Term {
  return or(
    registers.among(key, ["mdccint_el1"]),
    ...debugRegisters(state, m).map(({ name, exists }) => and(exists, registers.among(key, [name]))),
  );
}

const bankOffset = (m: Machine, bank: Bank): Term =>
  m.profile(`dbg${bank[0]?.toUpperCase()}${bank.slice(1)}`);

/** Where the registers are of the guest whose vCPU's record is at `vcpu`, if the host's pointer to them leads into its context; else 0. */
function guestsAt(state: State, m: Machine, vcpu: Term, pointer: Term): Term {
  const offset = sub(pointer, word(state, vcpuField(m, vcpuIndex(vcpu), "hva")));
  const size = m.profile("vcpuSize");
  const farthest = BANKS.map((bank) => bankOffset(m, bank)).reduce(bor);
  const end = add(offset, add(bv(4 * BANK_BYTES, 64), farthest));
  const isThere = and(ult(offset, size), ule(end, size), isAligned(offset, 3));
  return ite(isThere, add(contextOf(state, m, vcpu), offset), bv(0, 64));
}

/** Where the host's pointer to the guest's registers is. */
const pointerPlace = (state: State, m: Machine, vcpu: Term): Term =>
  add(contextOf(state, m, vcpu), m.profile("debugPtr"));

/** The host's pointer to the guest's registers is read. The result is that. */
function pointerRead(c: Clause, m: Machine, vcpu: Term): Term {
  const pointer = c.choose("pointer", 64, (after) => ghost(after, "named"));
  reads(c, pointerPlace(c.before, m, vcpu), pointer);
  setGhost(c.state, "named", pointer);
  return pointer;
}

/** Each of the guest's registers, with its place in its context, and whether CPU and guest have it. */
function guestsRegisters(state: State, m: Machine, vcpu: Term, pointer: Term) {
  const found = guestsAt(state, m, vcpu, pointer);
  const some = ne(found, bv(0, 64));
  const own = {
    name: "mdccint_el1",
    place: add(contextOf(state, m, vcpu), m.profile("mdccintEl1")),
    loaded: some,
    saved: TRUE,
  };
  const all = debugRegisters(state, m).map(({ name, exists, bank, n }) => {
    const place = add(add(found, bankOffset(m, bank)), bv(8 * n, 64));
    return { name, place, loaded: and(exists, some), saved: and(exists, some) };
  });
  return [own, ...all];
}

/** The guest's registers are in the machine, if it has some. */
function guestDebugLoaded(c: Clause, m: Machine, registers: Registers, vcpu: Term, pointer: Term): void {
  for (const { name, place, loaded } of guestsRegisters(c.before, m, vcpu, pointer))
    loads(c, registers, name, place, loaded);
}

/** The guest's registers, which `state` has in the machine, are in its context. */
function guestDebugSaved(state: State, m: Machine, registers: Registers, vcpu: Term, pointer: Term): void {
  for (const { name, place, saved } of guestsRegisters(state, m, vcpu, pointer))
    tells(state, place, registers.get(state, name), saved);
}

/** The host's registers are in this CPU's area, and the guest's in the machine, if `condition`. */
export function hostDebugSaved(state: State, m: Machine, registers: Registers, condition: Term = TRUE): void {
  for (const { name, place, exists } of debugRegisters(state, m))
    write(state, "linear", place, registers.get(state, name), and(condition, exists));
  putAway(state, m, registers, "mdccint_el1", condition);
  write(state, "linear", cpuKey(m, "debugLoaded"), bv(1, 64), condition);
}

/** The host's registers are those in this CPU's area, if `condition`. */
export function hostDebugLoaded(
  state: State,
  m: Machine,
  registers: Registers,
  condition: Term = TRUE,
): void {
  for (const { name, place, exists } of debugRegisters(state, m))
    registers.set(state, name, read(state, "linear", place), and(condition, exists));
  bringBack(state, m, registers, "mdccint_el1", condition);
  write(state, "linear", cpuKey(m, "debugLoaded"), bv(0, 64), condition);
}

export const debugIsLoaded = (state: State, m: Machine): Term =>
  ne(cpuField(state, m, "debugLoaded"), bv(0, 64));

/** Uses of what is in place for the guest's registers: each access is to the bank of the register that was read last. */
function usesBanks(m: Machine): Uses {
  let number = 0;
  const context = (state: State, [, vcpu]: readonly Term[]) => contextOf(state, m, vcpu as Term);
  const whole = usesContext(m, context);
  const noted = (call: Call) => {
    number = Number(call.args[0]?.value);
  };
  const inBank = (name: string) => (call: Call, args: readonly Term[]) => {
    const [pa] = call.args as [Term];
    const start = context(call.state, args);
    if (pa === add(start, m.profile("mdccintEl1"))) return whole[name]?.(call, args);
    const bank = sub(pa, bv(8 * number, 64));
    const size = m.profile("vcpuSize");
    return useInPart(call, m, start, size, bank, bv(8 * REGISTERS, 64), pa, bv(8, 64));
  };
  return {
    ...Object.fromEntries(["host_read64", "host_write64"].map((name) => [name, inBank(name)])),
    ...Object.fromEntries(BANKS.map((bank) => [`debug/read${title(bank)}`, noted])),
  };
}

const title = (bank: Bank) => `Dbg${bank}`;

export function debugContracts({ m, registers }: Core): Contract[] {
  const uses = usesBanks(m);
  const access: Contract[] = BANKS.flatMap((bank) => [
    {
      // A register by its number.
      function: `debug/read${title(bank)}`,
      parameters: ["n"],
      spec(c) {
        const n = c.args[0] as Term;
        c.require("there is such a register", ult(n, bv(REGISTERS, 32)));
        return numbers.reduceRight(
          (rest, i) => ite(eq(n, bv(i, 32)), registers.get(c.before, nameOf(bank, i)), rest),
          registers.get(c.before, nameOf(bank, REGISTERS - 1)),
        );
      },
    },
    {
      // Writes it.
      function: `debug/write${title(bank)}`,
      parameters: ["n", "value"],
      spec(c) {
        const [n, value] = c.args as [Term, Term];
        c.require("there is such a register", ult(n, bv(REGISTERS, 32)));
        for (const i of numbers) registers.set(c.state, nameOf(bank, i), value, eq(n, bv(i, 32)));
      },
    },
  ]);
  return [
    ...access,
    {
      // Where the guest's registers are: within its context, wherever the host's pointer leads, or nowhere.
      function: "debug/guestDebug",
      parameters: ["vcpu"],
      forms: { 0: vcpuForm(m) },
      uses: usesContext(m, (state, [vcpu]) => contextOf(state, m, vcpu as Term)),
      atReturn: (state, [vcpu]) =>
        setGhost(state, "named", heard(state, pointerPlace(state, m, vcpu as Term), 8)),
      spec(c) {
        const vcpu = c.args[0] as Term;
        const context = requireVcpu(c, m, vcpu);
        const pointer = hears(c, pointerPlace(c.before, m, vcpu), 8);
        setGhost(c.state, "named", pointer);
        const found = guestsAt(c.before, m, vcpu, pointer);
        const some = ne(found, bv(0, 64));
        const last = sub(m.profile("vcpuSize"), bv(BANK_BYTES, 64));
        for (const bank of BANKS) {
          const offset = add(sub(found, context), bankOffset(m, bank));
          c.ensure("they are in the context", implies(some, ule(offset, last)));
        }
        c.can("they are somewhere", some);
        c.can("they are nowhere", not(some));
        return found;
      },
    },
    {
      // Puts the host's registers away and loads the guest's, unless it has none.
      function: "debug/loadGuestDebug",
      parameters: ["cpu", "vcpu"],
      forms: { 0: thisCpu(m), 1: vcpuForm(m) },
      uses,
      spec(c) {
        const [, vcpu] = c.args as [Term, Term];
        requireVcpu(c, m, vcpu);
        c.require("no guest's registers are loaded", eq(cpuField(c.before, m, "debugLoaded"), bv(0, 64)));
        const pointer = pointerRead(c, m, vcpu);
        const loaded = ne(guestsAt(c.before, m, vcpu, pointer), bv(0, 64));
        hostDebugSaved(c.state, m, registers, loaded);
        guestDebugLoaded(c, m, registers, vcpu, pointer);
        c.can("they are loaded", loaded);
        c.can("the guest has none", not(loaded));
      },
    },
    {
      // Writes the guest's to its context and brings the host's back.
      function: "debug/saveGuestDebug",
      parameters: ["cpu", "vcpu"],
      forms: { 0: thisCpu(m), 1: vcpuForm(m) },
      uses,
      spec(c) {
        const [, vcpu] = c.args as [Term, Term];
        requireVcpu(c, m, vcpu);
        guestDebugSaved(c.state, m, registers, vcpu, pointerRead(c, m, vcpu));
        hostDebugLoaded(c.state, m, registers);
      },
    },
  ];
}
