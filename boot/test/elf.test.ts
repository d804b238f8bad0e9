import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { parseElf } from "../elf.ts";
import { BootError } from "../error.ts";
import { sampleElf } from "./samples.ts";

describe("an ELF file", () => {
  it("names its libraries and its interpreter", () => {
    const elf = parseElf(sampleElf({ needed: ["libc.so.6", "libz.so.1"], interpreter: "/lib/ld.so" }), "p");
    assert.deepEqual(elf.needed, ["libc.so.6", "libz.so.1"]);
    assert.equal(elf.interpreter, "/lib/ld.so");
  });

  it("needs nothing when it is static", () => {
    const elf = parseElf(sampleElf(), "p");
    assert.deepEqual(elf.needed, []);
    assert.equal(elf.interpreter, undefined);
  });

  it("gives its sections", () => {
    const elf = parseElf(sampleElf({ sections: { ".modinfo": "depends=\0", ".text": "x" } }), "m");
    assert.equal(Buffer.from(elf.section(".modinfo") ?? []).toString("latin1"), "depends=\0");
    assert.equal(elf.section(".data"), undefined);
  });

  it("is refused when it is none, is for another machine, or is cut short", () => {
    const refused = (pattern: RegExp) => (error: unknown) =>
      error instanceof BootError && pattern.test(error.message);
    assert.throws(
      () => parseElf(Buffer.from("#!/bin/sh\n"), "script"),
      refused(/script is not an arm64 ELF file/),
    );
    assert.throws(() => parseElf(sampleElf({ machine: 62 }), "x86"), refused(/machine is 62/));
    const whole = sampleElf({ needed: ["libc.so.6"] });
    assert.throws(() => parseElf(whole.subarray(0, 240), "cut"), refused(/cut short/));
  });
});
