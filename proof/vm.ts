/**
 * Life and death of VMs and vCPUs: who exists, and what of the host's memory is held in place for them. LOCK_VMS guards it.
 *
 * A record pins the structures of the host that it names. While the record is made or freed its pins float (`hostmem.ts`).
 */
import {
  add,
  and,
  band,
  bor,
  bv,
  type Call,
  type Clause,
  type Contract,
  concat,
  copyState,
  eq,
  extract,
  implies,
  ite,
  lshr,
  mul,
  ne,
  not,
  or,
  type State,
  shl,
  sub,
  type Term,
  TRUE,
  ule,
  ult,
  variable,
  zext,
} from "../microv/index.ts";
import { kvmHeld, sveBytes, tablesFit, vcpuField, vmField } from "./invariants.ts";
import { field } from "./layout.ts";
import { vcpuIndex, vmIndex } from "./linear.ts";
import { holdingNothing, lockFree, requireFree, whileOthersRun } from "./lock.ts";
import { vcpuAt, vmAt, vmForm } from "./records.ts";
import { ghost, holds, type Machine, page, read, requireNothingStale, word } from "./state.ts";
import type { Core } from "./theory.ts";

/** States of a VM record. */
export const VmState = { FREE: bv(0, 64), ACTIVE: bv(1, 64), DYING: bv(2, 64) };

/** A state in which this CPU holds LOCK_VMS and nothing else. */
export function holdingVms(state: State): void {
  holdingNothing(state);
  state.ghosts.vmsHeld = TRUE;
}

/** Demands a state as `holdingVms` makes it. */
export function requireVmsAlone(c: Clause, m: Machine): void {
  requireFree(c, "rootHeld");
  c.require("LOCK_VMS is held", ghost(c.before, "vmsHeld"));
  c.require("LOCK_PSCI is not held", not(ghost(c.before, "psciHeld")));
  requireNothingStale(c);
  for (const name of ["vcpuHeld", "vmHeld", "accessible"] as const)
    c.requireAll(`no ${name} record or page is held`, name, (key) => not(holds(c.before, name, key)));
  c.require("the tables are as long as they say", tablesFit(c.before, m));
}

export function vmContracts(core: Core): Contract[] {
  const { m } = core;
  const coreWord = (state: State, name: string) =>
    word(state, m.layout.constant("CORE_STATE") + field.core(name));
  const vm = (state: State, slot: Term, name: string) => word(state, vmField(m, slot, name));
  const vcpu = (state: State, index: Term, name: string) => word(state, vcpuField(m, index, name));
  const local = (state: State, index: number) => state.locals[index] as Term;

  return [
    {
      // The slot of the VM with this handle, or 0.
      function: "vm/slotOf",
      parameters: ["handle"],
      spec(c) {
        const [handle] = c.args as [Term];
        c.require("LOCK_VMS is held", ghost(c.before, "vmsHeld"));
        const slot = extract(7, 0, handle);
        const found = and(
          ne(slot, bv(0, 8)),
          ne(vm(c.before, slot, "state"), VmState.FREE),
          eq(vm(c.before, slot, "handle"), handle),
        );
        c.can("a VM has the handle", found);
        c.can("no VM has it", not(found));
        return ite(found, zext(slot, 32), bv(0, 32));
      },
    },
    {
      // The slot of the active VM whose struct kvm is at `kvmVa`, or 0.
      function: "vm/slotOfKvm",
      parameters: ["kvmVa"],
      loops: {
        0: {
          invariant: (now, entry) => {
            const slot = local(now, 1);
            const one = variable("any alive", 8);
            return {
              "it is a slot": and(ule(bv(1, 32), slot), ule(slot, bv(256, 32))),
              "no VM before has it": not(
                and(
                  ne(one, bv(0, 8)),
                  ult(zext(one, 32), slot),
                  eq(vm(entry, one, "state"), VmState.ACTIVE),
                  eq(vm(entry, one, "kvmVa"), local(entry, 0)),
                ),
              ),
            };
          },
          variant: (now) => sub(bv(256, 32), local(now, 1)),
        },
      },
      spec(c) {
        const [kvmVa] = c.args as [Term];
        const { before } = c;
        c.require("LOCK_VMS is held", ghost(before, "vmsHeld"));
        c.require("the tables are as long as they say", tablesFit(before, m));
        const result = c.result(32);
        const slot = extract(7, 0, result);
        const has = (one: Term) =>
          and(eq(vm(before, one, "state"), VmState.ACTIVE), eq(vm(before, one, "kvmVa"), kvmVa));
        c.ensure("it is a slot", ult(result, bv(256, 32)));
        c.ensure("the slot's VM has it", implies(ne(result, bv(0, 32)), has(slot)));
        c.ensureAll("no VM has it when there is none", "alive", (one) =>
          implies(
            and(eq(result, bv(0, 32)), ne(one, bv(0, 8)), ult(zext(one, 64), coreWord(before, "vmSlots"))),
            not(has(one)),
          ),
        );
        c.can("a VM has it", ne(result, bv(0, 32)));
        c.can("no VM has it", eq(result, bv(0, 32)));
        return result;
      },
    },
    {
      // The record of the vCPU whose struct kvm_vcpu is at `hva`, or 0; for 0, a free record that was used before.
      function: "vm/vcpuOfHva",
      parameters: ["hva"],
      loops: {
        0: {
          invariant: (now, entry) => {
            const index = local(now, 1);
            const one = variable("any vcpuRank", 10);
            return {
              "it is a record": ule(index, bv(1024, 32)),
              "no record before has it": not(
                and(ult(zext(one, 32), index), eq(vcpu(entry, one, "hva"), local(entry, 0))),
              ),
            };
          },
          variant: (now) => sub(bv(1024, 32), local(now, 1)),
        },
      },
      spec(c) {
        const [hva] = c.args as [Term];
        const { before } = c;
        c.require("LOCK_VMS is held", ghost(before, "vmsHeld"));
        c.require("the tables are as long as they say", tablesFit(before, m));
        const result = c.result(64);
        const index = vcpuIndex(extract(31, 0, result));
        const some = ne(result, bv(0, 64));
        c.ensure("it is a record", implies(some, eq(result, zext(vcpuAt(m, index), 64))));
        c.ensure(
          "the record has it",
          implies(
            some,
            and(eq(vcpu(before, index, "hva"), hva), ult(zext(index, 64), coreWord(before, "vcpuSlots"))),
          ),
        );
        c.ensureAll("no record has it when there is none", "vcpuRank", (one) =>
          implies(
            and(not(some), ult(zext(one, 64), coreWord(before, "vcpuSlots"))),
            ne(vcpu(before, one, "hva"), hva),
          ),
        );
        c.can("a record has it", some);
        c.can("no record has it", not(some));
        return result;
      },
    },
    {
      // Bytes of SVE state for a vector length of `vq` quadwords: z0 to z31, p0 to p15, FFR (Arm ARM B1.2).
      function: "vm/sveBytes",
      parameters: ["vq"],
      spec: (c) => sveBytes(c.args[0] as Term),
    },
    {
      // Puts at most 16 pages that the host donated for bookkeeping on its list in struct kvm, as far as they are the host's now.
      function: "vm/returnDonated",
      parameters: ["vm", "first", "pages"],
      forms: { 0: vmForm(m) },
      given: (state) => {
        lockFree("rootHeld")(state);
        state.ghosts.vmsHeld = TRUE;
      },
      loops: {
        0: {
          ...whileOthersRun(m, true),
          variant: (now) => sub(bv(16, 64), local(now, 3)),
          invariant: (now) => ({ "there are at most 16": ule(local(now, 3), bv(16, 64)) }),
        },
      },
      ghost: Object.fromEntries(
        ["host_read64", "host_write64"].map((name) => [
          name,
          (call: Call, [record]: readonly Term[]) => {
            const pa = call.args[0] as Term;
            for (const x of [page(pa), page(add(pa, bv(7, 64)))])
              call.assume(kvmHeld(call.state, m, vmIndex(record as Term), x));
          },
        ]),
      ),
      spec(c) {
        const [record] = c.args as [Term];
        requireFree(c, "rootHeld");
        c.require("LOCK_VMS is held", ghost(c.before, "vmsHeld"));
        c.require("the VM exists", holds(c.before, "alive", vmIndex(record)));
        c.can("it returns", TRUE);
      },
    },
  ];
}
