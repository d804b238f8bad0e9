import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { openCache } from "../../../boot/cache.ts";
import { findNode, formatFdt, memoryRegions, parseFdt } from "../../../boot/fdt.ts";
import { kernelRelease, patchBootMode, readImage } from "../../../boot/image.ts";
import type { Job } from "../../../boot/job.ts";
import { fetchKernel } from "../../../boot/kernel.ts";
import { readProfile } from "../../../boot/profile.ts";
import { dumpDeviceTree } from "../../../boot/qemu.ts";
import { openTools } from "../../../boot/tools.ts";

const job: Job = { cache: await openCache(), onProgress: () => {}, signal: new AbortController().signal };

describe("Debian's kernel", async () => {
  const { image, release } = await fetchKernel(job);
  const kernel = await readImage(image);

  it("says its release", () => {
    assert.equal(kernelRelease(kernel), release);
  });

  it("has the boot mode to patch exactly once", () => {
    const { bytes, offset } = patchBootMode(kernel);
    const differing = bytes.findIndex((byte, at) => byte !== kernel.bytes[at]);
    assert.ok(differing >= offset && differing < offset + 4);
    assert.equal(bytes.length, kernel.bytes.length);
  });

  it("gives a profile that holds together", () => {
    const { values } = readProfile(kernel);
    const size = values["sizeof kvm_vcpu"];
    for (const [field, value] of Object.entries(values)) {
      if (field.startsWith("kvm_vcpu.")) assert.ok(value >= 0 && value < size, field);
    }
    const registers = Object.entries(values).filter(([field]) => field.startsWith("vcpu_sysreg."));
    assert.equal(
      new Set(registers.map(([, value]) => value)).size,
      registers.length,
      "no two share an index",
    );
    // struct kvm_cpu_context: user_pt_regs, four SPSRs, user_fpsimd_state, then sys_regs.
    assert.equal(values["kvm_vcpu.arch.ctxt.spsr_abt"] - values["kvm_vcpu.arch.ctxt.regs"], 34 * 8);
    assert.equal(values["kvm_vcpu.arch.ctxt.sys_regs"] - values["kvm_vcpu.arch.ctxt.fp_regs"], 528);
    assert.equal(values["__kvm_host_smccc_func.__KVM_HOST_SMCCC_FUNC___kvm_get_mdcr_el2"], 1);
  });
});

describe("QEMU's device tree", () => {
  it("describes the memory that was asked for, and survives reading and writing", async () => {
    const shape = { cpu: "cortex-a76", cpus: 3, memory: 3n << 30n, qemuArgs: [] };
    const tree = parseFdt(await dumpDeviceTree(job, await openTools(job).qemu(), shape));
    assert.deepEqual(memoryRegions(tree), [{ base: 0x4000_0000n, size: 3n << 30n }]);
    assert.equal(findNode(tree, "/cpus")?.children.filter(({ name }) => name.startsWith("cpu@")).length, 3);
    const method = findNode(tree, "/psci")?.properties.get("method");
    assert.equal(Buffer.from(method ?? []).toString(), "smc\0", "the core forwards PSCI by SMC");
    assert.deepEqual(parseFdt(formatFdt(tree)), tree);
  });

  it("is refused with QEMU's reason when there is no such machine", async () => {
    const shape = { cpu: "pdp11", cpus: 1, memory: 1n << 30n, qemuArgs: [] };
    await assert.rejects(
      dumpDeviceTree(job, await openTools(job).qemu(), shape),
      /unable to find CPU model 'pdp11'/,
    );
  });
});
