/** What all proofs about the core share: its state, its invariants, the machine it runs on. */
import type { Module, Theory } from "../microv/index.ts";
import { invariantsOf } from "./invariants.ts";
import { layoutOf } from "./layout.ts";
import { GuardedMemory } from "./linear.ts";
import { stays } from "./lock.ts";
import { machineModels, Registers } from "./machine.ts";
import { arbitraryState, bootFacts, type Machine, machineOf } from "./state.ts";

/** The theory, and the words that contracts use. */
export interface Core {
  readonly m: Machine;
  readonly registers: Registers;
  readonly theory: Theory;
  /** The imports of the core, with the widths of their parameters. */
  readonly primitives: readonly { readonly name: string; readonly params: readonly number[] }[];
}

/** @throws Error when the module is not a build of the core */
export function coreOf(module: Module): Core {
  const m = machineOf(layoutOf(module));
  const registers = new Registers(module);
  return {
    m,
    registers,
    primitives: module.functions.flatMap(({ imported, params }) =>
      imported ? [{ name: imported.field, params }] : [],
    ),
    theory: {
      start: arbitraryState,
      invariants: invariantsOf(m, registers),
      hypotheses: bootFacts(m),
      models: machineModels(module, m, registers),
      linear: new GuardedMemory(m),
      stays: stays(m),
      scratch: ["unsynchronized"],
      witnesses: ["heard", "trail"],
    },
  };
}
