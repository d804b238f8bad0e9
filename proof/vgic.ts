/** The virtual GIC CPU interface: a guest gets what its list registers say, and the host finds the interface inert. */
import {
  add,
  and,
  band,
  bnot,
  bor,
  bv,
  type Clause,
  type Contract,
  eq,
  extract,
  implies,
  ite,
  ne,
  not,
  or,
  type State,
  type Term,
  TRUE,
  ugt,
  ule,
  ult,
} from "../microv/index.ts";
import { type Bits, fieldsIn, maskOf } from "./bits.ts";
import { apart, hears, loads, reads, tells } from "./dialogue.ts";
import type { Registers } from "./machine.ts";
import { cpuField, cpuKey, thisCpu } from "./percpu.ts";
import { fieldsAt, requireContext, usesContext } from "./profile.ts";
import { type Machine, write } from "./state.ts";
import type { Core } from "./theory.ts";

const LRS = Array.from({ length: 16 }, (_, n) => `ich_lr${n}_el2`);

/** ICH_HCR_EL2 fields that concern the guest alone (Arm IHI 0069, 12.4.7). */
const ICH_HCR_GUEST: Bits = {
  En: 0,
  UIE: 1,
  LRENPIE: 2,
  NPIE: 3,
  VGrp0EIE: 4,
  VGrp0DIE: 5,
  VGrp1EIE: 6,
  VGrp1DIE: 7,
  TC: 10,
  TALL0: 11,
  TALL1: 12,
  TSEI: 13,
  TDIR: 14,
  EOIcount: [27, 31],
};
/** ICH_LR_EL2 fields that a guest of the core has (12.4.8): no NMI. */
const ICH_LR: Bits = {
  vINTID: [0, 31],
  pINTID: [32, 44],
  Priority: [48, 55],
  Group: 60,
  HW: 61,
  State: [62, 63],
};
const ICC_SRE_ENABLE = bv(8, 64);
const SRE = bv(1, 64);

const mask = (bits: Bits): Term => bv(maskOf(bits), 64);
const only = (value: Term, bits: Bits): Term => eq(band(value, bnot(mask(bits))), bv(0, 64));

/** Registers that an entry may change of the interface, and what it may make of them, when `entered`. */
export function enterVgic(state: State, m: Machine, registers: Registers, before: State) {
  const last = cpuField(before, m, "lastListRegister");
  const used = cpuField(state, m, "usedLrs");
  const unchanged = (name: string) => eq(registers.get(state, name), registers.get(before, name));
  return and(
    ule(used, add(last, bv(1, 64))),
    or(unchanged("ich_hcr_el2"), only(registers.get(state, "ich_hcr_el2"), ICH_HCR_GUEST)),
    or(unchanged("icc_sre_el1"), eq(registers.get(state, "icc_sre_el1"), SRE)),
    ...LRS.map((name, n) =>
      or(unchanged(name), and(ult(bv(n, 64), used), only(registers.get(state, name), ICH_LR))),
    ),
  );
}
/** How many list registers are in use if the host says `described`: no more than there are. */
function ofAll(state: State, m: Machine, described: Term): Term {
  const all = add(cpuField(state, m, "lastListRegister"), bv(1, 64));
  return ite(ugt(described, all), all, described);
}

/** Where the context has list register `n`. */
const lrPlace = (m: Machine, context: Term, n: number): Term =>
  add(add(context, m.profile("vgicLr")), bv(8 * n, 64));

const VMCR = "ich_vmcr_el2";

/** Where the context has VMCR, and whether it has such an interface. */
const vmcrPlaces = (m: Machine, context: Term): { vmcr: Term; sre: Term } => {
  const at = fieldsAt(m, context);
  return { vmcr: at("vgicVmcr"), sre: at("vgicSre") };
};

/** The active priorities of a guest's interface, where its context has them, and whether the CPU does. */
function prioritiesOf(
  state: State,
  m: Machine,
  context: Term,
): { name: string; place: Term; exists: Term }[] {
  const bits = cpuField(state, m, "priorityBits");
  return [0, 1, 2, 3].flatMap((n) =>
    [0, 1].map((group) => ({
      name: `ich_ap${group}r${n}_el2`,
      place: add(add(context, m.profile(`vgicAp${group}r`)), bv(4 * n, 64)),
      exists: n === 0 ? TRUE : ugt(bits, bv(n === 1 ? 5 : 6, 64)),
    })),
  );
}

/** Whether all list registers held one value and hold another now. */
function listsBecome(c: Clause, registers: Registers, from: Term, to: Term): Term {
  const turned = (name: string) =>
    and(eq(registers.get(c.before, name), from), eq(registers.get(c.state, name), to));
  return and(...LRS.map(turned));
}

/** Registers that an entry may change. */
export const VGIC_ENTRY = ["ich_hcr_el2", "icc_sre_el1", ...LRS];

/** The guest's interrupts go on in its own interface, and the host's registers say so. */
export function hostSre(state: State, registers: Registers, guest: boolean, condition?: Term): void {
  const old = registers.get(state, "icc_sre_el2");
  const value = guest ? band(old, bnot(ICC_SRE_ENABLE)) : bor(old, ICC_SRE_ENABLE);
  registers.set(state, "icc_sre_el2", value, condition);
}

/** An exit leaves the interface inert. */
export function leaveVgic(state: State, m: Machine, registers: Registers): void {
  const used = extract(31, 0, cpuField(state, m, "usedLrs"));
  for (const [n, name] of LRS.entries()) registers.set(state, name, bv(0, 64), ult(bv(n, 32), used));
  registers.set(state, "ich_hcr_el2", bv(0, 64));
  hostSre(state, registers, false);
}

export function vgicContracts({ m, registers }: Core): Contract[] {
  const uses = usesContext(m, (_, [, context]) => context as Term);
  return [
    {
      // Writes list register `n`.
      function: "vgic/writeLr",
      parameters: ["n", "value"],
      spec(c) {
        const [n, value] = c.args as [Term, Term];
        c.require("there is such a register", ult(n, bv(16, 32)));
        for (const [i, name] of LRS.entries()) registers.set(c.state, name, value, eq(n, bv(i, 32)));
      },
    },
    {
      // Loads the guest's list registers: only fields that concern the guest alone, only as many as there are.
      function: "vgic/loadGuestVgic",
      parameters: ["cpu", "context"],
      forms: { 0: thisCpu(m) },
      uses,
      spec(c) {
        const { before, state } = c;
        const [, context] = c.args as [Term, Term];
        requireContext(c, m, context);
        hostSre(state, registers, true);
        const at = fieldsAt(m, context);
        const used = ofAll(before, m, hears(c, at("vgicUsedLrs"), 4));
        write(state, "linear", cpuKey(m, "usedLrs"), used);
        const known = apart(at("vgicUsedLrs"), at("vgicHcr"));
        const hcr = band(hears(c, at("vgicHcr"), 4, known), mask(ICH_HCR_GUEST));
        const enabled = eq(extract(0, 0, hcr), bv(1, 1));
        const some = and(enabled, ne(used, bv(0, 64)));
        const lists = LRS.map((_, n) => {
          const value = hears(c, lrPlace(m, context, n), 8, and(known, some, ult(bv(n, 64), used)));
          return band(value, mask(ICH_LR));
        });
        c.havoc("registers", (key) => registers.among(key, VGIC_ENTRY));
        c.ensure("the interface is the guest's alone", enterVgic(state, m, registers, before));
        const becomes = (name: string, value: Term, condition: Term) =>
          eq(registers.get(state, name), ite(condition, value, registers.get(before, name)));
        c.ensure(
          "it is as the host describes it",
          implies(
            known,
            and(
              becomes("ich_hcr_el2", hcr, or(not(enabled), some)),
              becomes("icc_sre_el1", SRE, not(enabled)),
              ...LRS.map((name, n) => becomes(name, lists[n] as Term, and(some, ult(bv(n, 64), used)))),
            ),
          ),
        );
        c.can("list registers become the guest's", listsBecome(c, registers, bv(0, 64), mask(ICH_LR)));
        c.can("and nothing of the host's stays", listsBecome(c, registers, bv(-1, 64), bv(0, 64)));
      },
    },
    {
      // Writes them back, of an empty one its state alone, and leaves the interface inert.
      function: "vgic/saveGuestVgic",
      parameters: ["cpu", "context"],
      forms: { 0: thisCpu(m) },
      uses,
      spec(c) {
        const { before, state } = c;
        const [, context] = c.args as [Term, Term];
        requireContext(c, m, context);
        const used = extract(31, 0, cpuField(before, m, "usedLrs"));
        for (const [n, name] of LRS.entries()) {
          const place = lrPlace(m, context, n);
          const inUse = ult(bv(n, 32), used);
          const empty = eq(extract(n, n, registers.get(before, "ich_elrsr_el2")), bv(1, 1));
          const described = hears(c, place, 8, and(inUse, empty));
          const idle = band(described, bnot(mask(fieldsIn(ICH_LR, "State"))));
          tells(state, place, ite(empty, idle, registers.get(before, name)), inUse);
        }
        leaveVgic(state, m, registers);
      },
    },
    {
      // Writes VMCR and the active priorities to the vCPU's context.
      function: "vgic/saveVmcrAprs",
      parameters: ["cpu", "context"],
      forms: { 0: thisCpu(m) },
      uses,
      spec(c) {
        const [, context] = c.args as [Term, Term];
        requireContext(c, m, context);
        const { vmcr, sre } = vmcrPlaces(m, context);
        const has = ne(hears(c, sre, 4), bv(0, 64));
        const put = (name: string, place: Term, condition: Term) =>
          tells(c.state, place, extract(31, 0, registers.get(c.before, name)), condition);
        for (const { name, place, exists } of prioritiesOf(c.before, m, context)) put(name, place, exists);
        put(VMCR, vmcr, has);
      },
    },
    {
      // Loads VMCR and the active priorities: nothing but the guest's interface, and no register that the CPU has not.
      function: "vgic/restoreVmcrAprs",
      parameters: ["cpu", "context"],
      forms: { 0: thisCpu(m) },
      uses,
      spec(c) {
        const { before, state } = c;
        const [, context] = c.args as [Term, Term];
        requireContext(c, m, context);
        const priorities = prioritiesOf(before, m, context);
        const { vmcr: vmcrPlace, sre } = vmcrPlaces(m, context);
        const known = and(apart(sre, vmcrPlace), ...priorities.map(({ place }) => apart(sre, place)));
        const has = ne(hears(c, sre, 4, known), bv(0, 64));
        for (const { name, place, exists } of priorities) loads(c, registers, name, place, exists);
        c.havoc("registers", (key) => registers.among(key, [VMCR]));
        const vmcr = registers.get(state, VMCR);
        reads(c, vmcrPlace, vmcr, and(known, has));
        c.ensure(
          "VMCR stays where the vCPU has no such interface",
          implies(and(known, not(has)), eq(vmcr, registers.get(before, VMCR))),
        );
      },
    },
  ];
}
