/** Everything that is claimed of the core: its contracts, its lemmas, and what it assumes. */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { kcoreFolder } from "../kcore/build/wasm.ts";
import type { Claims, Contract, Module } from "../microv/index.ts";
import { COUNTING_AXIOMS, machineAxioms } from "./axioms.ts";
import { bootContracts } from "./boot.ts";
import { debugContracts } from "./debug.ts";
import { speaking } from "./dialogue.ts";
import { donateContracts } from "./donate.ts";
import { el1Contracts } from "./el1.ts";
import { exceptionContracts } from "./exception.ts";
import { flushContracts } from "./flush.ts";
import { guesttrapContracts } from "./guesttrap.ts";
import { hostcallContracts } from "./hostcall.ts";
import { hostmapContracts } from "./hostmap.ts";
import { HOSTMEM_AXIOMS, hostmemContracts } from "./hostmem.ts";
import { hosttablesContracts } from "./hosttables.ts";
import { hosttrapContracts } from "./hosttrap.ts";
import { RECORDS } from "./invariants.ts";
import { lendContracts } from "./lend.ts";
import { lockContracts } from "./lock.ts";
import { nptContracts } from "./npt.ts";
import { pauthContracts } from "./pauth.ts";
import { pgtableContracts } from "./pgtable.ts";
import { poolContracts } from "./pool.ts";
import { PRIMITIVE_AXIOMS, primitiveLemmas } from "./primitives.ts";
import { inPlaceLemma } from "./profile.ts";
import { psciContracts } from "./psci.ts";
import { recordsContracts } from "./records.ts";
import { RELY_AXIOMS, relyLemmas } from "./rely.ts";
import { THEOREM_AXIOMS, theoremLemmas } from "./theorem.ts";
import { coreOf } from "./theory.ts";
import { LOCK_AXIOMS, LOCKS_BY_LEMMA, ticketLockLemmas } from "./ticketlock.ts";
import { tlbContracts } from "./tlb.ts";
import { TOP_AXIOMS, topContracts } from "./top.ts";
import { traceContracts, traced } from "./trace.ts";
import { vcpuContracts } from "./vcpu.ts";
import { vgicContracts } from "./vgic.ts";
import { vmContracts } from "./vm.ts";

/** @throws Error when the module is not a build of the core */
export function claimsOf(module: Module): Claims {
  const core = coreOf(module);
  return {
    theory: core.theory,
    contracts: [
      ...lockContracts(core.m),
      ...aside(poolContracts(core)),
      ...aside(tlbContracts(core)),
      ...aside(pgtableContracts(core)),
      ...aside(nptContracts(core)),
      ...aside(hostmapContracts(core)),
      ...aside(traceContracts(core)),
      ...lendContracts(core),
      ...hosttablesContracts(core),
      ...aside(hostmemContracts(core)),
      ...donateContracts(core),
      ...hosttrapContracts(core),
      ...aside(exceptionContracts()),
      ...aside(vgicContracts(core)),
      ...aside(el1Contracts(core)),
      ...aside(pauthContracts(core)),
      ...aside(debugContracts(core)),
      ...vcpuContracts(core),
      ...guesttrapContracts(core),
      ...topContracts(core),
      ...bootContracts(core),
      ...psciContracts(core),
      ...aside(recordsContracts(core)),
      ...vmContracts(core),
      ...flushContracts(core),
      ...hostcallContracts(core),
    ]
      .map(traced)
      .map(speaking(module)),
    unproved: [],
    byLemma: LOCKS_BY_LEMMA,
    lemmas: [
      inPlaceLemma(core.m),
      ...primitiveLemmas(core),
      ...ticketLockLemmas(module),
      ...relyLemmas(core),
      ...theoremLemmas(core, module),
    ],
    axioms: [
      ...machineAxioms(module),
      ...COUNTING_AXIOMS,
      ...PRIMITIVE_AXIOMS,
      ...LOCK_AXIOMS,
      ...RELY_AXIOMS,
      ...THEOREM_AXIOMS,
      ...HOSTMEM_AXIOMS,
      ...TOP_AXIOMS,
    ],
  };
}

/** Contracts of functions that read no record of a VM or vCPU, and may be called while one changes. */
function aside(contracts: readonly Contract[]): Contract[] {
  return contracts.map((one) => ({ ...one, without: [...(one.without ?? []), ...RECORDS] }));
}

/** What every proof depends on beside the core's bytes: the claims themselves, and the declarations of the core that they name. */
export function dependencies(): string {
  const own = sources(dirname(fileURLToPath(import.meta.url)));
  const declarations = sources(kcoreFolder).flatMap(
    (text) => text.match(/^(?:export )?(?:class|namespace) [\s\S]*?^\}/gm) ?? [],
  );
  return [...own, ...declarations].join("\n");
}

/** The TypeScript files of a folder, as text, in order of their names. */
function sources(folder: string): string[] {
  const names = readdirSync(folder).filter((name) => name.endsWith(".ts"));
  return names.sort().map((name) => readFileSync(join(folder, name), "utf8"));
}
