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
  or,
  type State,
  type Term,
  ugt,
  ule,
  ult,
} from "../microv/index.ts";
import { type Bits, maskOf } from "./bits.ts";
import type { Registers } from "./machine.ts";
import { cpuField, cpuKey, thisCpu } from "./percpu.ts";
import { requireContext, usesContext } from "./profile.ts";
import type { Machine } from "./state.ts";
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
  const priorities = (...numbers: readonly number[]) =>
    numbers.flatMap((n) => [`ich_ap0r${n}_el2`, `ich_ap1r${n}_el2`]);
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
        requireContext(c, m, c.args[1] as Term);
        c.havoc("linear", (key) => eq(key, cpuKey(m, "usedLrs")));
        hostSre(c.state, registers, true);
        c.havoc("registers", (key) => registers.among(key, VGIC_ENTRY));
        c.ensure("the interface is the guest's alone", enterVgic(c.state, m, registers, c.before));
        c.can("list registers become the guest's", listsBecome(c, registers, bv(0, 64), mask(ICH_LR)));
        c.can("and nothing of the host's stays", listsBecome(c, registers, bv(-1, 64), bv(0, 64)));
      },
    },
    {
      // Writes them back and leaves the interface inert.
      function: "vgic/saveGuestVgic",
      parameters: ["cpu", "context"],
      forms: { 0: thisCpu(m) },
      uses,
      spec(c) {
        requireContext(c, m, c.args[1] as Term);
        leaveVgic(c.state, m, registers);
      },
    },
    {
      // Writes VMCR and the active priorities to the vCPU's context.
      function: "vgic/saveVmcrAprs",
      parameters: ["cpu", "context"],
      forms: { 0: thisCpu(m) },
      uses,
      spec(c) {
        requireContext(c, m, c.args[1] as Term);
      },
    },
    {
      // Loads VMCR and the active priorities: nothing but the guest's interface, and no register that the CPU has not.
      function: "vgic/restoreVmcrAprs",
      parameters: ["cpu", "context"],
      forms: { 0: thisCpu(m) },
      uses,
      spec(c) {
        requireContext(c, m, c.args[1] as Term);
        const bits = cpuField(c.before, m, "priorityBits");
        const more = (n: number) => ugt(bits, bv(n, 64));
        c.havoc("registers", (key) =>
          or(
            registers.among(key, ["ich_vmcr_el2", ...priorities(0)]),
            and(more(5), registers.among(key, priorities(1))),
            and(more(6), registers.among(key, priorities(2, 3))),
          ),
        );
      },
    },
  ];
}
