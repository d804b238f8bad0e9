/** What is assumed beside what each file names: of the machine, by kind of primitive, and of counting. */
import type { Module } from "../microv/index.ts";

interface Axiom {
  readonly name: string;
  readonly reason: string;
}

/** Primitives by kind, as `kcore/machine.ts` groups them; the first that matches. */
const KINDS: readonly { readonly kind: string; readonly is: RegExp; readonly does: string }[] = [
  {
    kind: "table memory",
    is: /^pt_/,
    does: "one single-copy atomic access of one entry, or a table filled with zeroes",
  },
  {
    kind: "owner table",
    is: /^s2page_/,
    does: "one access of one entry of an array that nobody else can reach",
  },
  {
    kind: "page contents",
    is: /^page_/,
    does: "a page is zero afterwards, or clean and invalid in all caches",
  },
  { kind: "host memory", is: /^host_/, does: "an access of the host's memory: a read returns anything" },
  {
    kind: "FP/SIMD and SVE registers",
    is: /^(fp|sve)_/,
    does: "the register file goes to an image, or comes from it, as a whole",
  },
  {
    kind: "barriers",
    is: /^(isb|dsb_|psb_|tsb_)/,
    does: "what comes before is seen before what comes after (Arm ARM B2.3)",
  },
  {
    kind: "TLB and instruction cache maintenance",
    is: /^(tlbi_|ic_)/,
    does: "no CPU uses what is invalidated once the DSB that follows is complete (Arm ARM D8.14)",
  },
  { kind: "address translation", is: /^at_/, does: "PAR_EL1 receives some result" },
  {
    kind: "firmware",
    is: /^smc$/,
    does: "the call returns, x0..x17 of the frame change, and firmware does what PSCI and SMCCC say",
  },
  { kind: "the end", is: /^halt$/, does: "it does not return" },
  { kind: "register reads", is: /^mrs_/, does: "the register's value" },
  { kind: "register writes", is: /^msr_/, does: "the register holds the value from then on" },
];

/** Specifications of the primitives that the module imports: one axiom a kind, with how many primitives it is about. */
export function machineAxioms(module: Module): Axiom[] {
  const fields = module.functions.flatMap(({ imported }) => (imported ? [imported.field] : []));
  return KINDS.map(({ kind, is, does }) => {
    const count = fields.filter((field) => is.test(field)).length;
    return {
      name: `machine: ${kind} (${count} primitives)`,
      reason: `${does}; the models are in proof/machine.ts`,
    };
  });
}

/** Counting that the solver cannot do: it sees functions, not how many arguments they take somewhere. */
export const COUNTING_AXIOMS: readonly Axiom[] = [
  {
    name: "a list is no longer than its table",
    reason:
      "free table pages (poolFits) and the vCPUs of a VM (listFits) are lists without repetition, by their places: the pigeonhole principle",
  },
  {
    name: "counts fit",
    reason:
      "a page has fewer than 2^38 references and pins (countsFit): there are fewer entries and records than that",
  },
  {
    name: "a VM's record holds its struct kvm in place",
    reason:
      "each pin of a page floats or is a record's (kvmHeld): pins are conserved, one for one, by the contracts of initVmLocked and teardownLocked",
  },
];
