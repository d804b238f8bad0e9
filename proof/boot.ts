/**
 * Start of the core: everything that is taken for granted afterwards is checked or made here.
 *
 * `checkBootInfo` is what makes the facts about the boot tool's information true of which every other proof is told; nothing is told to it.
 */
import {
  add,
  and,
  band,
  bor,
  bv,
  type Clause,
  type Contract,
  eq,
  extract,
  FALSE,
  implies,
  ite,
  lshr,
  ne,
  not,
  or,
  type State,
  sub,
  type Term,
  TRUE,
  ule,
  ult,
  zext,
} from "../microv/index.ts";
import { type Bits, maskOf } from "./bits.ts";
import { field, fieldNames } from "./layout.ts";
import { type Registers, vttbrOf } from "./machine.ts";
import { cpuField, cpuKey, type Feature, has, setHostReg, thisCpu } from "./percpu.ts";
import { profileField } from "./profile.ts";
import {
  HOST_ROOT,
  infoFacts,
  isAligned,
  type Machine,
  nothingStale,
  requireNothingStale,
  setGhost,
  word,
  write,
} from "./state.ts";
import type { Core } from "./theory.ts";

const mask = (bits: Bits): Term => bv(maskOf(bits), 64);
const truth = (fact: Term): Term => ite(fact, bv(1, 32), bv(0, 32));
const zero = (value: Term): Term => eq(value, bv(0, value.width));

/** What a feature is told by: a field of an ID register (Arm ARM D24.2), and what else there is to know. */
function detected(state: State, registers: Registers): Record<Feature, Term> {
  const id = (name: string, high: number, low: number) =>
    extract(high, low, registers.get(state, `id_aa64${name}_el1`));
  const some = (name: string, low: number) => not(zero(id(name, low + 3, low)));
  /** Firmware keeps the buffer when P is set. */
  const offered = (name: string) => zero(extract(4, 4, registers.get(state, name)));
  const pmu = id("dfr0", 11, 8);
  return {
    SVE: some("pfr0", 32),
    RAS: some("pfr0", 28),
    PMU: and(not(zero(pmu)), ne(pmu, bv(15, 4))),
    SPE: and(some("dfr0", 32), offered("pmbidr_el1")),
    TRBE: and(some("dfr0", 44), offered("trbidr_el1")),
    HCX: some("mmfr1", 40),
    TCR2: some("mmfr3", 0),
    S1PIE: some("mmfr3", 8),
    S1POE: some("mmfr3", 16),
    PAUTH: or(
      ...[some("isar1", 4), some("isar1", 8), some("isar1", 24), some("isar1", 28)],
      some("isar2", 8),
      some("isar2", 12),
    ),
    SME: some("pfr1", 24),
    A32_EL0: eq(id("pfr0", 3, 0), bv(2, 4)),
    FGT: some("mmfr0", 56),
    AMU: some("pfr0", 44),
    FWB: some("mmfr2", 40),
  };
}

const DETECTED = ["features", "lastBreakpoint", "lastWatchpoint", "lastListRegister", "priorityBits"];

/** What a CPU has is written in its area. */
function detect(c: Clause, m: Machine, registers: Registers): void {
  const { before, state } = c;
  c.havoc("linear", (key) => or(...DETECTED.map((name) => eq(key, cpuKey(m, name)))));
  for (const [name, exists] of Object.entries(detected(before, registers)))
    c.ensure(`${name} is what the ID registers say`, eq(has(state, m, name as Feature), exists));
  const dfr0 = registers.get(before, "id_aa64dfr0_el1");
  const vtr = registers.get(before, "ich_vtr_el2");
  const is = (name: string, value: Term) => eq(cpuField(state, m, name), zext(value, 64));
  c.ensure(
    "numbers of registers are what the ID registers say",
    and(
      is("lastBreakpoint", extract(15, 12, dfr0)),
      is("lastWatchpoint", extract(23, 20, dfr0)),
      is("lastListRegister", extract(3, 0, vtr)),
      eq(cpuField(state, m, "priorityBits"), add(zext(extract(28, 26, vtr), 64), bv(1, 64))),
    ),
  );
}

/** CPTR_EL2 of the host: nothing it has is trapped (Arm ARM D24.2.28, without E2H). */
const CPTR: Bits = { RES1: [0, 7], RES1_9: 9, RES1_13: 13 };
const TZ: Bits = { TZ: 8 };
const TSM: Bits = { TSM: 12 };
const HCR: Bits = { VM: 0, TSC: 19, RW: 31, APK: 40, API: 41, ATA: 56 };
const HCRX: Bits = { MSCEn: 11, TCR2En: 14, EnFPM: 22 };
const HFGRTR: Record<string, Bits> = {
  SME: { nSMPRI_EL1: 54, nTPIDR2_EL0: 55 },
  S1PIE: { nPIRE0_EL1: 57, nPIR_EL1: 58 },
  S1POE: { nPOR_EL0: 59 },
};

/** A word of the core's state. */
const core = (state: State, m: Machine, name: string): Term =>
  word(state, m.layout.constant("CORE_STATE") + field.core(name));

/** What every CPU has when the host starts on it. */
function setUp(c: Clause, m: Machine, registers: Registers): void {
  const { before, state } = c;
  requireNothingStale(c);
  detect(c, m, registers);
  const present = (...features: Feature[]) => has(state, m, ...features);
  const set = (name: string, value: Term, condition: Term = TRUE) =>
    registers.set(state, name, value, condition);
  const put = (name: string, value: Term) => write(state, "linear", cpuKey(m, name), value);
  const either = (condition: Term, bits: Bits): Term => ite(condition, mask(bits), bv(0, 64));
  c.ensure(
    "it has FEAT_S2FWB as the other CPUs do",
    eq(present("FWB"), not(zero(core(before, m, "forceWriteBack")))),
  );
  const cptr = [mask(CPTR), either(not(present("SVE")), TZ), either(not(present("SME")), TSM)].reduce(
    (all, part) => bor(all, part),
  );
  put("hostCptr", cptr);
  set("cptr_el2", cptr);
  const { TCR2En: _, ...rest } = HCRX;
  const hcrx = ite(present("TCR2"), mask(HCRX), mask(rest));
  put("hostHcrx", hcrx);
  set("hcrx_el2", hcrx, present("HCX"));
  set("hcr_el2", mask(HCR));
  set("vtcr_el2", core(before, m, "hostVtcr"));
  set("vttbr_el2", vttbrOf(m, HOST_ROOT));
  set("vbar_el2", bv(0, 64));
  set("hstr_el2", bv(0, 64));
  set("cnthctl_el2", bv(3, 64));
  set("cntvoff_el2", bv(0, 64));
  set("vpidr_el2", registers.get(before, "midr_el1"));
  set("vmpidr_el2", registers.get(before, "mpidr_el1"));
  set("ich_hcr_el2", bv(0, 64));
  set("icc_sre_el2", bv(15, 64));
  set("zcr_el2", bv(15, 64), present("SVE"));
  set("smcr_el2", bv((1n << 31n) | 15n, 64), present("SME"));
  set("lorc_el1", bv(0, 64), not(zero(extract(19, 16, registers.get(before, "id_aa64mmfr1_el1")))));
  // Translation and caches are off.
  set("sctlr_el1", bv(0x30d0_0800, 64));
  const mdcr = [
    ite(present("PMU"), zext(extract(15, 11, registers.get(before, "pmcr_el0")), 64), bv(0, 64)),
    either(present("SPE"), { E2PB: [12, 13] }),
    either(present("TRBE"), { E2TB: [24, 25] }),
  ].reduce((all, part) => bor(all, part));
  put("hostMdcr", mdcr);
  set("mdcr_el2", mdcr);
  set("pmscr_el2", mask({ CX: 3, PA: 4 }), present("SPE"));
  const traps = Object.entries(HFGRTR)
    .map(([feature, bits]) => either(present(feature as Feature), bits))
    .reduce((all, part) => bor(all, part));
  const brbe = ite(
    ule(bv(3, 4), extract(35, 32, registers.get(before, "id_aa64dfr0_el1"))),
    mask({ nPMSNEVFR_EL1: 62 }),
    bv(0, 64),
  );
  const fgt = present("FGT");
  set("hdfgrtr_el2", brbe, fgt);
  set("hdfgwtr_el2", brbe, fgt);
  set("hfgrtr_el2", traps, fgt);
  set("hfgwtr_el2", traps, fgt);
  set("hfgitr_el2", bv(0, 64), fgt);
  set("hafgrtr_el2", bv(0, 64), and(fgt, present("AMU")));
  // What was written before is seen before the host runs.
  setGhost(state, "unordered", FALSE);
}

/** The host starts at `entry` with `context` in x0 and zero in all other registers, and no guest's registers are in the machine. */
function hostEntered(c: Clause, m: Machine, registers: Registers, entry: Term, context: Term): void {
  const { state } = c;
  for (let n = 0; n < 31; n++) setHostReg(state, m, n, n === 0 ? context : bv(0, 64));
  for (const name of ["running", "lastVcpu", "fpLoaded", "debugLoaded"])
    write(state, "linear", cpuKey(m, name), bv(0, 64));
  registers.set(state, "elr_el2", entry);
  // EL1h, D, A, I and F masked.
  registers.set(state, "spsr_el2", bv(0b11_1100_0101, 64));
}

export function bootContracts({ m, registers }: Core): Contract[] {
  const info = m.info;
  return [
    {
      // Four bits of a register.
      function: "boot/idField",
      parameters: ["register", "shift"],
      spec(c) {
        const [register, shift] = c.args as [Term, Term];
        c.require("the field lies in the register", ult(shift, bv(64, 64)));
        return band(lshr(register, shift), bv(15, 64));
      },
    },
    {
      // Whether a range of pages lies in the core's memory.
      function: "boot/inCore",
      parameters: ["base", "pages"],
      spec(c) {
        const [base, pages] = c.args as [Term, Term];
        const first = lshr(sub(base, info("coreBase")), bv(12, 64));
        const fits = ule(pages, sub(info("corePages"), first));
        return truth(and(isAligned(base, 12), ult(first, info("corePages")), fits));
      },
    },
    {
      // Whether no offset of the profile leads out of its structure.
      function: "boot/checkProfile",
      founding: true,
      without: ["the profile leads out of no structure"],
      spec(c) {
        const result = c.result(32);
        const sane = eq(result, bv(1, 32));
        c.ensure("it says yes or no", ule(result, bv(1, 32)));
        for (const name of fieldNames.profile)
          c.ensure("no offset leads out", implies(sane, profileField(m, name)));
        c.can("the profile is good", sane);
        c.can("the profile is bad", not(sane));
        return result;
      },
    },
    {
      // Whether the boot tool's information makes sense: what every proof is told of it is so.
      function: "boot/checkBootInfo",
      founding: true,
      without: ["the profile leads out of no structure"],
      spec(c) {
        const result = c.result(32);
        const good = eq(result, bv(1, 32));
        c.ensure("it says yes or no", ule(result, bv(1, 32)));
        for (const [n, fact] of infoFacts(m).entries())
          c.ensure(`fact ${n} about the information`, implies(good, fact));
        for (const name of fieldNames.profile)
          c.ensure("the profile is good", implies(good, profileField(m, name)));
        c.can("the information is good", good);
        c.can("the information is bad", not(good));
        return result;
      },
    },
    {
      // Finds out what this CPU has.
      function: "boot/detect",
      parameters: ["cpu"],
      forms: { 0: thisCpu(m) },
      spec: (c) => detect(c, m, registers),
    },
    {
      // Sets every EL2 register for the host on this CPU, or ends the core when the CPU lacks what others have.
      function: "boot/setupCpu",
      parameters: ["cpu"],
      forms: { 0: thisCpu(m) },
      given: nothingStale,
      spec: (c) => setUp(c, m, registers),
    },
    {
      // Lets this CPU run the host.
      function: "boot/enterHost",
      parameters: ["cpu", "entry", "context"],
      forms: { 0: thisCpu(m) },
      spec(c) {
        const [, entry, context] = c.args as [Term, Term, Term];
        hostEntered(c, m, registers, entry, context);
      },
    },
  ];
}
