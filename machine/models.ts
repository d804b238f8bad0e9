/**
 * CPU models: the identification registers of a CPU, and which system registers exist on it.
 *
 * The values are those that the four CPUs show at EL2 under QEMU where it has them; `max` has every feature the core
 * knows. An access to a register that a CPU does not have is undefined, and at EL2 that is the end of the core.
 */

/** What the core can ask a CPU about itself. */
export interface CpuModel {
  readonly name: string;
  /** ID registers by architectural name in lower case; those left out read as 0. */
  readonly ids: Readonly<Record<string, bigint>>;
  /** Longest SVE vector in quadwords, 0 without SVE. */
  readonly maxVq: number;
}

/** ICH_VTR_EL2: 7 priority bits would need AP0R3; these CPUs have 5, `max` has 7. ListRegs is the number less 1. */
const vtr = (priorityBits: number, listRegisters: number) =>
  (BigInt(priorityBits - 1) << 29n) |
  (BigInt(priorityBits - 1) << 26n) |
  (1n << 23n) |
  BigInt(listRegisters - 1);

/** PMCR_EL0 with N event counters. */
const pmcr = (counters: number) => BigInt(counters) << 11n;

const models = {
  "cortex-a72": {
    maxVq: 0,
    ids: {
      midr_el1: 0x410f_d083n,
      id_aa64pfr0_el1: 0x0100_2222n,
      id_aa64dfr0_el1: 0x1030_5106n,
      id_aa64isar0_el1: 0x1_1120n,
      id_aa64mmfr0_el1: 0x1124n,
      ich_vtr_el2: vtr(5, 4),
      pmcr_el0: pmcr(6),
    },
  },
  "cortex-a76": {
    maxVq: 0,
    ids: {
      midr_el1: 0x414f_d0b1n,
      id_aa64pfr0_el1: 0x1100_0000_1111_1112n,
      id_aa64pfr1_el1: 0x10n,
      id_aa64dfr0_el1: 0x1030_5408n,
      id_aa64isar1_el1: 0x10_0001n,
      id_aa64mmfr0_el1: 0x10_1122n,
      id_aa64mmfr1_el1: 0x1021_2122n,
      id_aa64mmfr2_el1: 0x1011n,
      ich_vtr_el2: vtr(5, 4),
      pmcr_el0: pmcr(6),
    },
  },
  "neoverse-n1": {
    maxVq: 0,
    ids: {
      midr_el1: 0x414f_d0c1n,
      id_aa64pfr0_el1: 0x1100_0000_1111_1112n,
      id_aa64pfr1_el1: 0x20n,
      id_aa64dfr0_el1: 0x1_1030_5408n,
      id_aa64isar1_el1: 0x10_0001n,
      id_aa64mmfr0_el1: 0x10_1125n,
      id_aa64mmfr1_el1: 0x1021_2122n,
      id_aa64mmfr2_el1: 0x1_1011n,
      ich_vtr_el2: vtr(5, 4),
      pmcr_el0: pmcr(6),
    },
  },
  max: {
    maxVq: 16,
    ids: {
      midr_el1: 0x000f_0510n,
      // CSV3, CSV2, DIT, AMU, SVE, RAS, GIC, AdvSIMD, FP, EL3, EL2, EL1, EL0 (AArch64 alone).
      id_aa64pfr0_el1: 0x1201_1011_1111_1111n,
      // SME and NMI aside from SSBS and BTI.
      id_aa64pfr1_el1: 0x0100_0021n,
      // TraceBuffer 44, PMSVer 32 (3: FEAT_SPEv1p2), 16 breakpoints and watchpoints, PMUVer 8.
      id_aa64dfr0_el1: 0x1113_f0f0_f619n,
      // QARMA5 address and generic authentication.
      id_aa64isar1_el1: (1n << 4n) | (1n << 24n),
      // PARange 52 bits, FGT.
      id_aa64mmfr0_el1: (1n << 56n) | 0x1126n,
      // HCX, XNX, LO, VMID16.
      id_aa64mmfr1_el1: (1n << 40n) | (1n << 28n) | (1n << 16n) | (2n << 4n),
      // FWB.
      id_aa64mmfr2_el1: 1n << 40n,
      // TCRX, S1PIE, S1POE.
      id_aa64mmfr3_el1: 1n | (1n << 8n) | (1n << 16n),
      ich_vtr_el2: vtr(7, 16),
      pmcr_el0: pmcr(31),
    },
  },
} satisfies Record<string, Omit<CpuModel, "name">>;

export type CpuModelName = keyof typeof models;
export const cpuModelNames = Object.keys(models) as CpuModelName[];

/** The CPU model of this name. */
export function cpuModel(name: CpuModelName): CpuModel {
  return { name, ...models[name] };
}

/** Names of the features that decide about registers, by the ID register field that announces them. */
const features = {
  A32_EL0: (id) => field(id, "id_aa64pfr0_el1", 0) === 2,
  RAS: (id) => field(id, "id_aa64pfr0_el1", 28) !== 0,
  SVE: (id) => field(id, "id_aa64pfr0_el1", 32) !== 0,
  AMU: (id) => field(id, "id_aa64pfr0_el1", 44) !== 0,
  SME: (id) => field(id, "id_aa64pfr1_el1", 24) !== 0,
  PMU: (id) => ![0, 15].includes(field(id, "id_aa64dfr0_el1", 8)),
  SPE: (id) => field(id, "id_aa64dfr0_el1", 32) !== 0,
  TRBE: (id) => field(id, "id_aa64dfr0_el1", 44) !== 0,
  PAUTH: (id) => field(id, "id_aa64isar1_el1", 4) !== 0 || field(id, "id_aa64isar1_el1", 8) !== 0,
  FGT: (id) => field(id, "id_aa64mmfr0_el1", 56) !== 0,
  LOR: (id) => field(id, "id_aa64mmfr1_el1", 16) !== 0,
  XNX: (id) => field(id, "id_aa64mmfr1_el1", 28) !== 0,
  HCX: (id) => field(id, "id_aa64mmfr1_el1", 40) !== 0,
  FWB: (id) => field(id, "id_aa64mmfr2_el1", 40) !== 0,
  TCR2: (id) => field(id, "id_aa64mmfr3_el1", 0) !== 0,
  S1PIE: (id) => field(id, "id_aa64mmfr3_el1", 8) !== 0,
  S1POE: (id) => field(id, "id_aa64mmfr3_el1", 16) !== 0,
} satisfies Record<string, (id: Readonly<Record<string, bigint>>) => boolean>;

export type Feature = keyof typeof features;

function field(ids: Readonly<Record<string, bigint>>, register: string, shift: number): number {
  return Number(((ids[register] ?? 0n) >> BigInt(shift)) & 15n);
}

/** True when the CPU model has the feature. */
export function hasFeature(model: CpuModel, feature: Feature): boolean {
  return features[feature](model.ids);
}

/** Registers that exist only with a feature; the first pattern that matches decides. */
const conditional: readonly (readonly [RegExp, Feature])[] = [
  [/^zcr_/, "SVE"],
  [/^(smcr_|smpri_|tpidr2_|svcr$)/, "SME"],
  [/^(vsesr|vdisr|disr)_/, "RAS"],
  [/^hcrx_/, "HCX"],
  [/^hafgrtr_/, "AMU"],
  [/^h(d?fg[rw]tr|fgitr)_/, "FGT"],
  [/^tcr2_/, "TCR2"],
  [/^pire?0?_/, "S1PIE"],
  [/^por_/, "S1POE"],
  [/^ap[a-z]+key/, "PAUTH"],
  [/^(pmscr|pmblimitr|pmbidr)_/, "SPE"],
  [/^(trblimitr|trbidr|trfcr)_/, "TRBE"],
  [/^pm(cr|selr|userenr|cntenset|cntenclr)_/, "PMU"],
  [/^lorc_/, "LOR"],
];

/** True when a CPU of this model has the register of this name, in lower case. */
export function hasRegister(model: CpuModel, name: string): boolean {
  const numbered = /^(dbgb[cv]r|dbgw[cv]r|ich_lr|ich_ap[01]r)(\d+)_/.exec(name);
  if (numbered) return Number(numbered[2]) < registerCount(model, numbered[1] as string);
  const condition = conditional.find(([pattern]) => pattern.test(name));
  return condition === undefined || hasFeature(model, condition[1]);
}

function registerCount(model: CpuModel, family: string): number {
  if (family.startsWith("dbgb")) return field(model.ids, "id_aa64dfr0_el1", 12) + 1;
  if (family.startsWith("dbgw")) return field(model.ids, "id_aa64dfr0_el1", 20) + 1;
  const type = model.ids.ich_vtr_el2 ?? 0n;
  if (family === "ich_lr") return Number(type & 15n) + 1;
  return 1 << (Number((type >> 26n) & 7n) + 1 - 5);
}
