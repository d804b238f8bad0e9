import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { BootError } from "../error.ts";
import { parseImage } from "../image.ts";
import { readProfile } from "../profile.ts";
import { BtfBuilder, sampleImage } from "./samples.ts";

function kernelWith(types: BtfBuilder) {
  return parseImage(sampleImage([{ at: 1024, bytes: types.build() }], { size: 8192 }), "odd-kernel");
}

describe("the profile of a kernel", () => {
  it("is refused without BTF", () => {
    assert.throws(() => readProfile(parseImage(sampleImage(), "odd-kernel")), /odd-kernel has no BTF/);
  });

  it("is refused when a struct or member is missing, naming it", () => {
    const empty = new BtfBuilder();
    empty.int("int", 4);
    assert.throws(() => readProfile(kernelWith(empty)), /no struct kvm_vcpu/);
    const partial = new BtfBuilder();
    partial.struct("kvm_vcpu", 8, [["kvm", partial.pointer(0), 0]]);
    assert.throws(
      () => readProfile(kernelWith(partial)),
      (error) => error instanceof BootError && /no member vcpu_idx in struct kvm_vcpu/.test(error.message),
    );
  });
});
