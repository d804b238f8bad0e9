import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { Btf, findBtf } from "../btf.ts";
import { BootError } from "../error.ts";
import { BtfBuilder, sampleImage } from "./samples.ts";

function sample(): Buffer {
  const types = new BtfBuilder();
  const u32 = types.int("u32", 4);
  const u64 = types.typedef("u64", types.volatile(types.int("unsigned long", 8)));
  const lines = types.array(u64, 16);
  const pair = types.struct("pair", 16, [
    ["low", u64, 0],
    ["high", u64, 64],
  ]);
  const pairs = types.array(pair, 4);
  const unnamed = types.struct("", 12, [
    ["inner", u64, 0],
    ["small", u32, 64],
  ]);
  const either = types.union("", 16, [
    ["word", u32, 0],
    ["", unnamed, 32],
  ]);
  types.struct("vcpu", 256, [
    ["kvm", types.pointer(0), 0],
    ["", either, 64],
    ["lines", lines, 256],
    ["pairs", pairs, 1280],
    ["nested", pair, 1792],
  ]);
  types.struct("flags", 4, [
    ["ready", u32, 0, 1],
    ["done", u32, 1, 1],
    ["count", u32, 8, 0],
  ]);
  types.enumeration("sysreg", { MPIDR_EL1: 1, SCTLR_EL1: 163, BAD: -1 });
  types.enumeration64("wide", { HUGE: 0x1_0000_0002n });
  return types.build();
}

const missing = (pattern: RegExp) => (error: unknown) =>
  error instanceof BootError && pattern.test(error.message);

describe("BTF", () => {
  const btf = new Btf(sample(), "k");

  it("gives offsets of members, through anonymous structs and unions", () => {
    assert.equal(btf.offsetOf("vcpu", "kvm"), 0);
    assert.equal(btf.offsetOf("vcpu", "word"), 8);
    assert.equal(btf.offsetOf("vcpu", "inner"), 12);
    assert.equal(btf.offsetOf("vcpu", "small"), 20);
    assert.equal(btf.offsetOf("vcpu", "nested.high"), 232);
  });

  it("gives offsets of elements of arrays", () => {
    assert.equal(btf.offsetOf("vcpu", "lines"), 32);
    assert.equal(btf.offsetOf("vcpu", "lines[3]"), 56);
    assert.equal(btf.offsetOf("vcpu", "pairs[2].high"), 160 + 32 + 8);
  });

  it("gives sizes of structs and members", () => {
    assert.equal(btf.sizeOf("vcpu"), 256);
    assert.equal(btf.sizeOf("vcpu", "lines"), 128);
    assert.equal(btf.sizeOf("vcpu", "kvm"), 8);
    assert.equal(btf.sizeOf("vcpu", "nested.low"), 8);
  });

  it("gives values of enumerators, negative and wide ones too", () => {
    assert.equal(btf.enumValue("sysreg", "SCTLR_EL1"), 163);
    assert.equal(btf.enumValue("sysreg", "BAD"), -1);
    assert.equal(btf.enumValue("wide", "HUGE"), 0x1_0000_0002);
    assert.equal(btf.constant("MPIDR_EL1"), 1);
  });

  it("refuses bit-fields, and takes plain members beside them", () => {
    assert.throws(() => btf.offsetOf("flags", "done"), missing(/member done in struct flags is a bit-field/));
    assert.equal(btf.offsetOf("flags", "count"), 1);
  });

  it("names what is missing", () => {
    assert.throws(() => btf.offsetOf("kvm_vcpu", "kvm"), missing(/kernel k.*no struct kvm_vcpu/));
    assert.throws(() => btf.offsetOf("vcpu", "arch"), missing(/no member arch in struct vcpu/));
    assert.throws(
      () => btf.offsetOf("vcpu", "nested.middle"),
      missing(/no member middle in struct vcpu\.nested/),
    );
    assert.throws(() => btf.offsetOf("vcpu", "kvm.arch"), missing(/no member arch in struct vcpu\.kvm/));
    assert.throws(() => btf.offsetOf("vcpu", "lines[16]"), missing(/16 elements/));
    assert.throws(() => btf.offsetOf("vcpu", "kvm[0]"), missing(/no array/));
    assert.throws(
      () => btf.enumValue("sysreg", "SCTLR2_EL1"),
      missing(/no enumerator SCTLR2_EL1 in enum sysreg/),
    );
    assert.throws(() => btf.enumValue("none", "A"), missing(/no enum none/));
    assert.throws(() => btf.constant("NONE"), missing(/no enumerator NONE/));
  });

  it("is found in an image, behind bytes that only begin like it", () => {
    const blob = sample();
    const image = sampleImage(
      [
        { at: 256, bytes: Buffer.from([0x9f, 0xeb, 1, 0, 24, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]) },
        { at: 1001, bytes: blob },
      ],
      { size: 8192 },
    );
    assert.deepEqual(Buffer.from(findBtf(image, "k")), blob);
  });

  it("is missed when it is not there", () => {
    assert.throws(() => findBtf(sampleImage(), "k"), missing(/kernel k has no BTF.*CONFIG_DEBUG_INFO_BTF/));
  });

  it("gives an answer or a refusal, whatever is damaged", () => {
    const blob = sample();
    fc.assert(
      fc.property(
        fc.nat(blob.length - 1),
        fc.nat(255),
        fc.nat(blob.length - 1),
        fc.nat(255),
        (at, value, to, other) => {
          const damaged = Buffer.from(blob);
          damaged[at] = value;
          damaged[to] = other;
          try {
            const broken = new Btf(damaged, "k");
            for (const path of ["inner", "lines[3]", "pairs[2].high"]) broken.offsetOf("vcpu", path);
            broken.sizeOf("vcpu", "pairs");
            broken.constant("HUGE");
          } catch (error) {
            assert.ok(error instanceof BootError, `${error instanceof Error ? error.stack : error}`);
          }
        },
      ),
      { numRuns: 3000 },
    );
  });
});
