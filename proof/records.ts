/** Records of VMs and vCPUs: where they are, as words in which slot and index show. */
import { type Call, type Contract, extract, implies, type Term } from "../microv/index.ts";
import { vcpuField, vmField, vmRecord } from "./invariants.ts";
import { vcpuIndex, vmIndex } from "./linear.ts";
import { ghost, holds, type Machine, word } from "./state.ts";
import type { Core } from "./theory.ts";

/** The record of VM `slot` (8 bits), and vCPU record `index` (10 bits). */
export const vmAt = (m: Machine, slot: Term): Term => vmField(m, slot, "slot");
export const vcpuAt = (m: Machine, index: Term): Term => vcpuField(m, index, "lock");

/** Forms of parameters that point to a record. */
export const vmForm =
  (m: Machine) =>
  (pointer: Term): Term =>
    vmAt(m, vmIndex(pointer));
export const vcpuForm =
  (m: Machine) =>
  (pointer: Term): Term =>
    vcpuAt(m, vcpuIndex(pointer));

/** Uses that the record of VM `slot` agrees while LOCK_VMS is held, having shown that it still does. */
export function useVmRecord(call: Call, m: Machine, slot: Term): void {
  const agrees = implies(ghost(call.state, "vmsHeld"), vmRecord(call.state, m, slot));
  call.oblige("the VM's record agrees", agrees);
  call.assume(agrees);
}

export function recordsContracts({ m }: Core): Contract[] {
  return [
    {
      // The record of a VM slot.
      function: "records/vmAt",
      parameters: ["slot"],
      spec: (c) => vmAt(m, extract(7, 0, c.args[0] as Term)),
    },
    {
      // A vCPU record by number.
      function: "records/vcpuAt",
      parameters: ["index"],
      spec: (c) => vcpuAt(m, extract(9, 0, c.args[0] as Term)),
    },
    {
      // A vCPU record by the address of it that another record keeps.
      function: "records/vcpuOf",
      parameters: ["address"],
      spec: (c) => vcpuAt(m, vcpuIndex(c.args[0] as Term)),
    },
    {
      // The record of a vCPU's VM, while the vCPU is held.
      function: "records/vmOf",
      parameters: ["vcpu"],
      forms: { 0: vcpuForm(m) },
      spec(c) {
        const index = vcpuIndex(c.args[0] as Term);
        c.require("the vCPU is held", holds(c.before, "vcpuHeld", index));
        return vmAt(m, vmIndex(extract(31, 0, word(c.before, vcpuField(m, index, "vm")))));
      },
    },
  ];
}
