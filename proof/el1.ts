/** The registers of the EL1&0 regime: an entry puts the host's away, an exit brings them back, and a guest's go to its own context. */
import { add, and, type Clause, type Contract, type State, type Term, TRUE } from "../microv/index.ts";
import { loads, tells } from "./dialogue.ts";
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

/** Where the context at `context` has a register: in the field of its name. */
export const placeOf = (m: Machine, context: Term, name: string): Term =>
  add(context, m.profile(name === "vmpidr_el2" ? "mpidrEl1" : fieldOf(name)));

/** The registers have the values in the context at `context`, if `condition`. */
export function guestEl1Loaded(
  c: Clause,
  m: Machine,
  registers: Registers,
  context: Term,
  condition: Term = TRUE,
): void {
  for (const { name, exists } of [{ name: "vmpidr_el2", exists: TRUE }, ...sharedEl1(c.before, m)])
    loads(c, registers, name, placeOf(m, context, name), and(condition, exists));
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
      // Writes the guest's to its context, each to its place, and nothing else.
      function: "el1/saveGuestEl1",
      parameters: ["cpu", "context"],
      forms: { 0: thisCpu(m) },
      uses,
      spec(c) {
        const [, context] = c.args as [Term, Term];
        requireContext(c, m, context);
        for (const { name, exists } of sharedEl1(c.before, m))
          tells(c.state, placeOf(m, context, name), registers.get(c.before, name), exists);
      },
    },
    {
      // Loads the guest's from their places in its context, and no others.
      function: "el1/loadGuestEl1",
      parameters: ["cpu", "context"],
      forms: { 0: thisCpu(m) },
      uses,
      spec(c) {
        const [, context] = c.args as [Term, Term];
        requireContext(c, m, context);
        guestEl1Loaded(c, m, registers, context);
      },
    },
  ];
}
