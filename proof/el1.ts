/** The registers of the EL1&0 regime: an entry puts the host's away, an exit brings them back, and a guest's go to its own context. */
import { and, bv, type Clause, type Contract, eq, or, type State, type Term, TRUE } from "../microv/index.ts";
import type { Registers } from "./machine.ts";
import { cpuField, cpuKey, type Feature, fieldOf, has, thisCpu } from "./percpu.ts";
import { requireContext, usesContext } from "./profile.ts";
import { type Machine, write } from "./state.ts";
import type { Core } from "./theory.ts";

/**
 * What host and guests share, by the features of a CPU that has it. The host's value of each waits in the field of this CPU's area that is
 * called as the register is. FEAT_S1PIE and FEAT_S1POE imply FEAT_TCR2.
 */
const SHARED: readonly { readonly features: readonly Feature[]; readonly registers: readonly string[] }[] = [
  {
    features: [],
    registers: [
      "sctlr_el1",
      "cpacr_el1",
      "ttbr0_el1",
      "ttbr1_el1",
      "tcr_el1",
      "esr_el1",
      "afsr0_el1",
      "afsr1_el1",
      "far_el1",
      "mair_el1",
      "vbar_el1",
      "contextidr_el1",
      "amair_el1",
      "cntkctl_el1",
      "par_el1",
      "tpidr_el1",
      "sp_el1",
      "elr_el1",
      "spsr_el1",
      "mdscr_el1",
      "tpidr_el0",
      "tpidrro_el0",
    ],
  },
  { features: ["TCR2"], registers: ["tcr2_el1"] },
  { features: ["TCR2", "S1PIE"], registers: ["pir_el1", "pire0_el1"] },
  { features: ["TCR2", "S1POE"], registers: ["por_el1", "por_el0"] },
];

/** Each of them, with whether this CPU has it. */
export const sharedEl1 = (state: State, m: Machine): { name: string; exists: Term }[] =>
  SHARED.flatMap(({ features, registers }) =>
    registers.map((name) => ({ name, exists: has(state, m, ...features) })),
  );

/** Puts the value of a register in the field of its name. */
export function putAway(
  state: State,
  m: Machine,
  registers: Registers,
  name: string,
  condition?: Term,
): void {
  write(state, "linear", cpuKey(m, fieldOf(name)), registers.get(state, name), condition);
}

/** Gives a register the value in the field of its name. */
export function bringBack(
  state: State,
  m: Machine,
  registers: Registers,
  name: string,
  condition?: Term,
): void {
  registers.set(state, name, cpuField(state, m, fieldOf(name)), condition);
}

/** The host's registers are in this CPU's area, if `condition`. */
export function hostEl1Saved(state: State, m: Machine, registers: Registers, condition: Term = TRUE): void {
  for (const { name, exists } of sharedEl1(state, m))
    putAway(state, m, registers, name, and(condition, exists));
}

/** The host's registers have the values in this CPU's area. */
export function hostEl1Loaded(state: State, m: Machine, registers: Registers): void {
  for (const { name, exists } of sharedEl1(state, m)) bringBack(state, m, registers, name, exists);
}

/**
 * States that registers can hold, after a function that loads a guest's, whatever they held before, the other way round: so each of them is
 * loaded, and none keeps a value of the host's.
 */
export function canBeGuests(
  c: Clause,
  registers: Registers,
  names: readonly string[],
  condition: Term = TRUE,
): void {
  const turned = (name: string, from: Term, to: Term) =>
    and(eq(registers.get(c.before, name), from), eq(registers.get(c.state, name), to));
  const [zeros, ones] = [bv(0, 64), bv(-1, 64)];
  c.can("zeros become ones", and(condition, ...names.map((name) => turned(name, zeros, ones))));
  c.can("ones become zeros", and(condition, ...names.map((name) => turned(name, ones, zeros))));
}

/** Whether a register is one of those that a guest brings. */
export function isGuestEl1(state: State, m: Machine, registers: Registers, key: Term): Term {
  return or(
    registers.among(key, ["vmpidr_el2"]),
    ...SHARED.map(({ features, registers: names }) =>
      and(has(state, m, ...features), registers.among(key, names)),
    ),
  );
}

export function el1Contracts({ m, registers }: Core): Contract[] {
  const uses = usesContext(m, (_, [, context]) => context as Term);
  return [
    {
      // Puts the host's registers away.
      function: "el1/saveHostEl1",
      parameters: ["cpu"],
      forms: { 0: thisCpu(m) },
      spec: (c) => hostEl1Saved(c.state, m, registers),
    },
    {
      // Brings them back.
      function: "el1/loadHostEl1",
      parameters: ["cpu"],
      forms: { 0: thisCpu(m) },
      spec: (c) => hostEl1Loaded(c.state, m, registers),
    },
    {
      // Writes the guest's to its context, and nowhere else.
      function: "el1/saveGuestEl1",
      parameters: ["cpu", "context"],
      forms: { 0: thisCpu(m) },
      uses,
      spec: (c) => requireContext(c, m, c.args[1] as Term),
    },
    {
      // Loads the guest's, and no others.
      function: "el1/loadGuestEl1",
      parameters: ["cpu", "context"],
      forms: { 0: thisCpu(m) },
      uses,
      spec(c) {
        requireContext(c, m, c.args[1] as Term);
        const { before } = c;
        c.havoc("registers", (key) => isGuestEl1(before, m, registers, key));
        canBeGuests(c, registers, ["vmpidr_el2", ...sharedEl1(before, m).map(({ name }) => name)]);
      },
    },
  ];
}
