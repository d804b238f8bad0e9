/** Pointer authentication keys: the host's wait in this CPU's area while a guest's are in the machine. */
import { type Contract, type State, type Term, TRUE } from "../microv/index.ts";
import { loads, tells } from "./dialogue.ts";
import { placeOf } from "./el1.ts";
import type { Registers } from "./machine.ts";
import { areaKey, thisCpu } from "./percpu.ts";
import { requireContext, usesContext } from "./profile.ts";
import { type Machine, read, write } from "./state.ts";
import type { Core } from "./theory.ts";

/** The keys, in the order of `HOST_KEYS`. */
export const KEYS = ["apia", "apib", "apda", "apdb", "apga"].flatMap((key) => [
  `${key}keylo_el1`,
  `${key}keyhi_el1`,
]);

/** Where the host's key number `n` waits. */
export const keyPlace = (m: Machine, n: number) => areaKey(m, m.layout.constant("HOST_KEYS") + 8 * n);

/** The host's keys are in this CPU's area, if `condition`. */
export function hostKeysSaved(state: State, m: Machine, registers: Registers, condition: Term = TRUE): void {
  for (const [n, key] of KEYS.entries())
    write(state, "linear", keyPlace(m, n), registers.get(state, key), condition);
}

/** The host's keys are those in this CPU's area, if `condition`. */
export function hostKeysLoaded(state: State, m: Machine, registers: Registers, condition: Term = TRUE): void {
  for (const [n, key] of KEYS.entries())
    registers.set(state, key, read(state, "linear", keyPlace(m, n)), condition);
}

export function pauthContracts({ m, registers }: Core): Contract[] {
  const uses = usesContext(m, (_, [, context]) => context as Term);
  return [
    {
      // Puts the host's keys away and loads the guest's.
      function: "pauth/loadGuestKeys",
      parameters: ["cpu", "context"],
      forms: { 0: thisCpu(m) },
      uses,
      spec(c) {
        const [, context] = c.args as [Term, Term];
        requireContext(c, m, context);
        hostKeysSaved(c.state, m, registers);
        for (const key of KEYS) loads(c, registers, key, placeOf(m, context, key));
      },
    },
    {
      // Writes the guest's keys to its context and brings the host's back.
      function: "pauth/saveGuestKeys",
      parameters: ["cpu", "context"],
      forms: { 0: thisCpu(m) },
      uses,
      spec(c) {
        const [, context] = c.args as [Term, Term];
        requireContext(c, m, context);
        for (const key of KEYS) tells(c.state, placeOf(m, context, key), registers.get(c.before, key));
        hostKeysLoaded(c.state, m, registers);
      },
    },
  ];
}
