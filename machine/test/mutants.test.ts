/**
 * Each rule is seen failing: a core with a bug that breaks it, in the same random sequences that the core as it is
 * passes, ends with the rule's name.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Psci, smc64 } from "../firmware.ts";
import { guestWrite, interrupt } from "../guest.ts";
import { PAGE_SIZE } from "../physical.ts";
import { type Lab, type LabOptions, openLab } from "./lab.ts";
import { perform, sequence, World } from "./operations.ts";
import { buildVariant, type Mutant } from "./variant.ts";

interface SeededBug extends Mutant {
  /** What the bug is, and the rules of which one is broken. */
  readonly bug: string;
  readonly rules: RegExp;
  /** What shows it, where chance hardly would. */
  readonly scene?: (options: LabOptions) => void;
}

/** The host touches a page in the same GiB as the core. */
function touchBesideTheCore(options: LabOptions): void {
  const { kernel, machine } = openLab({ ...options, ramPages: 2 ** 18, corePages: 2048 });
  kernel.read(machine.cpu(0), machine.coreEnd + 2 ** 28);
}

/** A private VM lives, with a block that the host has written to, and dies; the host touches all of it again. */
function useBlock({ kernel, machine }: Lab): number {
  const cpu = machine.cpu(0);
  const vm = kernel.createVm(cpu);
  const vcpu = kernel.createVcpu(cpu, vm);
  const frame = vm.frames.first + 512;
  kernel.back(vm, frame, { level: 2 });
  const pa = vm.backing.get(frame) as number;
  for (const offset of [0, 511]) kernel.write(cpu, pa + offset * PAGE_SIZE, 1n);
  assert.equal(kernel.run(cpu, vcpu), "guest");
  assert.notEqual(guestWrite(machine, cpu, frame * PAGE_SIZE, 2n), "exit");
  interrupt(machine, cpu);
  assert.equal(kernel.destroyVm(cpu, vm), 0n);
  for (let n = 0; n < 512; n++) kernel.write(cpu, pa + n * PAGE_SIZE, 3n);
  return pa;
}

/** A block is donated, comes back page by page, and is donated to the next VM. */
function donateBlockTwice(options: LabOptions): void {
  const lab = openLab({ ...options, privateVms: true });
  assert.equal(useBlock(lab), useBlock(lab), "another block");
}

/** The host asks for a vCPU at EL2. */
function runAtEl2(options: LabOptions): void {
  const { kernel, machine } = openLab(options);
  const cpu = machine.cpu(0);
  const vcpu = kernel.createVcpu(cpu, kernel.createVm(cpu));
  kernel.setContext(vcpu, { pstate: 0x3c9n });
  kernel.run(cpu, vcpu);
}

/** The host suspends a CPU by a function that it never uses, and the CPU wakes up. */
function suspendByDefault(options: LabOptions): void {
  const { machine, kernel } = openLab(options);
  machine.smcByHost(machine.cpu(1), smc64(Psci.CPU_DEFAULT_SUSPEND), kernel.linear(machine.memory.base), 0);
  machine.wake(1);
}

const bugs: readonly SeededBug[] = [
  {
    bug: "a mapping is taken away without invalidating its leaf",
    file: "tlb.ts",
    right: "tlbi_ipas2e1is(ipa >> 12);\n  dsb_ish();",
    wrong: "dsb_ish();",
    rules: /tlbsAgree|PageIsUnreachable/,
  },
  {
    bug: "a whole VM is flushed on this CPU's stage 1 alone",
    file: "tlb.ts",
    right: "tlbi_vmalls12e1is();",
    wrong: "tlbi_vmalle1is();",
    rules: /tlbsAgree|PageIsUnreachable|freedTableIsUnreachable/,
  },
  {
    bug: "a page comes back to the host unscrubbed",
    file: "memory.ts",
    right: "page_zero(pa);",
    wrong: "",
    rules: /returnedPageIsZero|hostReadsNoSecret/,
  },
  {
    bug: "a page comes back to the host zero in caches alone",
    file: "memory.ts",
    right: "page_clean(pa);\n  setOwner(s2pageIndex(pa), OWNER_HOST, 0);",
    wrong: "setOwner(s2pageIndex(pa), OWNER_HOST, 0);",
    rules: /returnedPageIsZero/,
  },
  {
    bug: "a page is donated with dirty lines",
    file: "memory.ts",
    right: "page_clean(pa);\n  setOwner(s2pageIndex(pa), vm.handle, frame(ipa));",
    wrong: "setOwner(s2pageIndex(pa), vm.handle, frame(ipa));",
    rules: /donatedPageIsClean/,
  },
  {
    bug: "a block is donated with dirty lines",
    file: "memory.ts",
    right: "page_clean(pa + (i << 12));",
    wrong: "",
    rules: /donatedPageIsClean/,
  },
  {
    bug: "a page is donated while the host maps it",
    file: "memory.ts",
    right: "!hostmapUnmapPage(pa)",
    wrong: "false",
    rules: /donatedPageIsUnreachable|hostMapsItsOwn|donatedPagesHaveTables/,
  },
  {
    bug: "a page is donated while it is in use",
    file: "memory.ts",
    right: "!isFreePage(s2pageIndex(pa))",
    wrong: "!isHostPage(s2pageIndex(pa))",
    rules: /donatedPageIsUnused|hostMemoryIsHosts/,
  },
  {
    bug: "a page of anybody's is lent",
    file: "memory.ts",
    right: "!isRam(pa) || !isHostPage(s2pageIndex(pa))",
    wrong: "!isRam(pa)",
    rules: /mapsOnlyTheOwners/,
  },
  {
    bug: "a lent page keeps its use for ever",
    file: "memory.ts",
    right: "if (vm.privateMemory == 0) dropUses(entry, level);",
    wrong: "",
    rules: /usesAreCounted/,
  },
  {
    bug: "the pages of a table that goes keep their uses",
    file: "memory.ts",
    right: "emptyTable(vm, entry & PTE_ADDRESS);\n    poolFree(entry & PTE_ADDRESS);",
    wrong: "poolFree(entry & PTE_ADDRESS);",
    rules: /usesAreCounted/,
  },
  {
    bug: "the host maps whatever it touches",
    file: "memory.ts",
    right: "(!isRam(pa) || isHostPage(s2pageIndex(pa))) && hostmapMap(pa)",
    wrong: "hostmapMap(pa)",
    rules: /mapsOnlyTheOwners/,
  },
  {
    bug: "a page is scrubbed while its VM maps it",
    file: "memory.ts",
    right: "taken && unmapPrivate(vm, ipa)",
    wrong: "taken",
    rules: /returnedPageIsUnreachable/,
  },
  {
    bug: "tables of the host are walked wherever they are",
    file: "memory.ts",
    right: "!isRam(slot) || !isHostPage(s2pageIndex(slot))",
    wrong: "false",
    rules: /hostMemoryIsHosts/,
  },
  {
    bug: "a table is freed while CPUs may still walk it",
    file: "memory.ts",
    right: "pt_write(slot, 0);\n  tlbFlushVmid(nptVttbr(<u32>vm.slot));\n  poolFree(entry & PTE_ADDRESS);",
    wrong: "pt_write(slot, 0);\n  poolFree(entry & PTE_ADDRESS);",
    rules: /freedTableIsUnreachable|tlbsAgree/,
  },
  {
    bug: "the host's blocks cover the core",
    file: "hostmap.ts",
    right: "if (overlaps(base, size, bootInfo.coreBase, bootInfo.corePages << 12)) return false;",
    wrong: "",
    rules: /mapsOnlyTheOwners|corePagesAreUnmapped/,
    scene: touchBesideTheCore,
  },
  {
    bug: "a donated block stays in TLBs",
    file: "hostmap.ts",
    right: "tlbFlushVmid(hostVttbr());",
    wrong: "",
    rules: /donatedPageIsUnreachable|tlbsAgree/,
    scene: donateBlockTwice,
  },
  {
    bug: "a block is split without break before make",
    file: "pgtable.ts",
    right: "replaceEntry(slot, table | PTE_TABLE | PTE_VALID, vttbr, ipa);\n  return true;",
    wrong: "setEntry(slot, table | PTE_TABLE | PTE_VALID); return true;",
    rules: /breakBeforeMake/,
  },
  {
    bug: "a table is linked before its contents are visible",
    file: "pgtable.ts",
    right: "dsb_ishst();\n  pt_write(slot, entry);",
    wrong: "pt_write(slot, entry);",
    rules: /storesReachWalkers/,
  },
  {
    bug: "a table page is handed out with the list's link in it",
    file: "pool.ts",
    right: "pt_write(page, 0);",
    wrong: "",
    rules:
      /tablesAreTrees|onlyOrdinaryVmsRetain|mapsOnlyTheOwners|poolIsAccounted|hostMapIsIdentity|usesAreCounted/,
  },
  {
    bug: "the host chooses all of HCR_EL2",
    file: "vcpu.ts",
    right: "(chosen & HCR_HOST_CHOICE) | HCR_ALWAYS",
    wrong: "chosen | HCR_ALWAYS",
    rules: /registersFitContext/,
  },
  {
    bug: "a guest shares the registers of SME",
    file: "vcpu.ts",
    right: "if ((cpu.features & FEATURE_SME) != 0) hideSme(cpu);",
    wrong: "",
    rules: /hostRegistersAreHidden/,
  },
  {
    bug: "a vCPU runs in whatever state the host says",
    file: "vcpu.ts",
    right: "!isGuestPstate(cpu, pstate)",
    wrong: "false",
    rules: /returnsAreLegal/,
    scene: runAtEl2,
  },
  {
    bug: "the host goes on with a guest's EL1 registers",
    file: "vcpu.ts",
    right: "loadHostEl1(cpu);",
    wrong: "",
    rules: /hostRegistersSurvive/,
  },
  {
    bug: "the host goes on with a guest's FP registers",
    file: "fpsimd.ts",
    right: "fp_load(changetype<usize>(cpu) + HOST_FP);",
    wrong: "",
    rules: /hostRegistersSurvive/,
  },
  {
    bug: "a dead vCPU's structure stays pinned",
    file: "vm.ts",
    right: "unpin(vcpu.pa, profile.vcpuSize);",
    after: "\n    if",
    wrong: "",
    rules: /usesAreCounted/,
  },
  {
    bug: "a structure is pinned in anybody's memory",
    file: "hostmem.ts",
    right: "isRam(pa + (i << 12)) && isHostPage(first + i)",
    wrong: "isRam(pa + (i << 12))",
    rules: /hostMemoryIsHosts|corePagesAreUnmapped|coreOwnsItsMemory|privateVmMapsItsOwn|usesAreCounted/,
  },
  {
    bug: "a vCPU runs on two CPUs",
    file: "vm.ts",
    right: "if (!tryAcquire(changetype<usize>(vcpu))) return 0;",
    after: "\n      if (vcpu.hva == hva)",
    wrong: "",
    rules: /vcpusRunOnce/,
  },
  {
    bug: "a VM is torn down while it runs",
    file: "vm.ts",
    right: "if (!holdVcpus(vm)) return EBUSY;",
    wrong: "",
    rules: /registersFitContext|vcpusRunOnce|vcpusHaveVms/,
  },
  {
    bug: "a range is flushed from tables and not from TLBs",
    file: "vm.ts",
    right: "tlbFlushVmid(nptVttbr(slot));\n    if (next >> vm.ipaBits != 0) next = end;",
    wrong: "if (next >> vm.ipaBits != 0) next = end;",
    rules: /tlbsAgree|storesReachWalkers/,
  },
  {
    bug: "every PSCI function reaches firmware",
    file: "psci.ts",
    right: "isForwarded(psci) || isHarmless(id)",
    wrong: "isIn(psci, PSCI_BASE, 32)",
    rules: /everyCpuStartsInTheCore/,
    scene: suspendByDefault,
  },
];

const core = await buildVariant(bugs);

const sequences = fc.sample(sequence(300), { seed: 20261125, numRuns: 40 });

/** What ends the sequences on a core with this bug: the message, or undefined when nothing does. */
function firstFailure(mutant: number): string | undefined {
  for (const [n, operations] of sequences.entries()) {
    const lab = openLab({
      core,
      mutant,
      model: "max",
      privateVms: n % 2 === 0,
      seed: n,
      poolPages: 200,
      cpus: 3,
    });
    const world = new World(lab);
    world.populate();
    for (const operation of operations) perform(world, operation);
    lab.invariants.check();
  }
  return undefined;
}

function failureOf(mutant: number, scene?: SeededBug["scene"]): string | undefined {
  try {
    if (scene === undefined) return firstFailure(mutant);
    scene({ core, mutant });
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

test("without a bug, nothing fails", () => assert.equal(failureOf(0), undefined));

for (const [n, { bug, rules, scene }] of bugs.entries()) {
  test(`seen: ${bug}`, () => {
    assert.match(failureOf(n + 1, scene) ?? "nothing failed", rules);
    if (scene) assert.equal(failureOf(0, scene), undefined, "the scene fails without the bug");
  });
}
