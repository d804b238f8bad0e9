/** Everything that is claimed of the core: its contracts, its lemmas, and what it assumes. */
import type { Claims, Module } from "../microv/index.ts";
import { lockContracts } from "./lock.ts";
import { pgtableContracts } from "./pgtable.ts";
import { poolContracts } from "./pool.ts";
import { coreOf } from "./theory.ts";
import { traceContracts } from "./trace.ts";

/** @throws Error when the module is not a build of the core */
export function claimsOf(module: Module): Claims {
  const core = coreOf(module);
  return {
    theory: core.theory,
    contracts: [...lockContracts(core.m), ...poolContracts(core), ...pgtableContracts(core), ...traceContracts(core)],
    unproved: [],
    lemmas: [],
    axioms: [],
  };
}
