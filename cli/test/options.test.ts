import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { collectQemuArg, wholeNumber } from "../options.ts";

describe("an argument for QEMU", () => {
  const collect = (...values: string[]) =>
    values.reduce<string[]>((all, value) => collectQemuArg(value, all), []);

  it("is passed as it is", () => {
    assert.deepEqual(collect("-device", "virtio-rng-pci", "-snapshot"), [
      "-device",
      "virtio-rng-pci",
      "-snapshot",
    ]);
    assert.deepEqual(collect("file=a b.img"), ["file=a b.img"], "a value may hold blanks");
  });

  it("may be an option and its value together", () => {
    assert.deepEqual(collect("-device virtio-rng-pci", "-append a  b"), [
      "-device",
      "virtio-rng-pci",
      "-append",
      "a  b",
    ]);
  });
});

describe("a whole number", () => {
  it("is taken in its range and refused elsewhere", () => {
    const parse = wholeNumber(1, 8);
    assert.equal(parse("1"), 1);
    assert.equal(parse("8"), 8);
    for (const text of ["0", "9", "-1", "1.5", "two", "", "1e1"])
      assert.throws(() => parse(text), /from 1 to 8/, text);
  });
});
