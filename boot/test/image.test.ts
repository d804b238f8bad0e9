import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";
import { gzipSync } from "node:zlib";
import { BootError } from "../error.ts";
import { kernelRelease, parseImage, patchBootMode, readImage } from "../image.ts";
import { bootModeSite, sampleImage, temporaryFolder } from "./samples.ts";

const refusal = (pattern: RegExp) => (error: unknown) => {
  assert.ok(error instanceof BootError, `${error}`);
  assert.match(error.message, pattern);
  assert.ok(!error.message.includes("\n"), "one line");
  return true;
};

/** An EFI zboot file around a payload. */
function zboot(payload: Uint8Array, compression: string): Buffer {
  const header = Buffer.alloc(128);
  header.write("MZ", 0, "latin1");
  header.write("zimg", 4, "latin1");
  header.writeUInt32LE(header.length, 8);
  header.writeUInt32LE(payload.length, 12);
  header.write(compression, 24, "latin1");
  return Buffer.concat([header, payload]);
}

describe("a kernel image", () => {
  it("is read from its header", () => {
    const image = parseImage(sampleImage([], { imageSize: 0x123000n }), "k");
    assert.equal(image.imageSize, 0x123000n);
    assert.equal(image.textOffset, 0n);
  });

  it("is unpacked from gzip and from an EFI zboot file", () => {
    const raw = sampleImage();
    assert.deepEqual(Buffer.from(parseImage(gzipSync(raw), "k").bytes), raw);
    assert.deepEqual(Buffer.from(parseImage(zboot(gzipSync(raw), "gzip"), "k").bytes), raw);
  });

  it("is refused when the zboot payload is compressed otherwise, naming how", () => {
    assert.throws(() => parseImage(zboot(sampleImage(), "zstd22"), "k"), refusal(/zstd22/));
  });

  it("is refused when it is not for arm64, saying what it is", () => {
    const elf = Buffer.alloc(4096);
    elf.write("\x7fELF", 0, "latin1");
    const bzImage = Buffer.alloc(4096);
    bzImage.write("HdrS", 0x202, "latin1");
    assert.throws(() => parseImage(elf, "vmlinux"), refusal(/vmlinux.*ELF/));
    assert.throws(() => parseImage(bzImage, "bz"), refusal(/x86/));
    assert.throws(() => parseImage(Buffer.alloc(4096), "zeroes"), refusal(/zeroes.*magic/));
    assert.throws(() => parseImage(Buffer.from("hello"), "short"), refusal(/only 5 bytes/));
    assert.throws(() => parseImage(Buffer.alloc(0), "empty"), refusal(/only 0 bytes/));
  });

  it("is refused when it ends before its last section", () => {
    const whole = sampleImage([], { peSectionEnd: 4096 });
    assert.equal(parseImage(whole, "k").bytes.length, 4096);
    assert.throws(
      () => parseImage(whole.subarray(0, 4000), "k"),
      refusal(/truncated: it has 4000 of 4096 bytes/),
    );
    assert.throws(() => parseImage(whole.subarray(0, 70), "k"), refusal(/truncated/));
    assert.throws(() => parseImage(gzipSync(whole).subarray(0, 60), "k"), refusal(/truncated/));
  });

  it("is refused when there is no such file", async (test) => {
    const folder = await temporaryFolder(test);
    await assert.rejects(readImage(join(folder, "none")), refusal(/none \(ENOENT\)/));
    await assert.rejects(readImage(folder), refusal(/EISDIR/));
    await writeFile(join(folder, "text"), "x".repeat(100));
    await assert.rejects(readImage(join(folder, "text")), refusal(/text is not an arm64 Image/));
  });

  it("tells its release from its banner, not from other text", () => {
    const other = Buffer.from("Linux version of this\0", "latin1");
    const banner = Buffer.from("Linux version 6.12.117+deb12-cloud-arm64 (builder) #1 SMP\0", "latin1");
    const pieces = [
      { at: 1000, bytes: other },
      { at: 2000, bytes: banner },
    ];
    assert.equal(kernelRelease(parseImage(sampleImage(pieces), "k")), "6.12.117+deb12-cloud-arm64");
    assert.equal(kernelRelease(parseImage(sampleImage(), "k")), undefined);
  });
});

describe("the boot mode patch", () => {
  const site = (at: number) => ({ at, bytes: bootModeSite });

  it("changes one immediate and nothing else", () => {
    const file = sampleImage([site(1024)]);
    const before = Buffer.from(file);
    const { bytes, offset } = patchBootMode(parseImage(file, "k"));
    assert.equal(offset, 1024);
    const expected = Buffer.from(before);
    expected.writeUInt32LE(0x5281c240, 1024);
    assert.deepEqual(Buffer.from(bytes), expected);
    assert.deepEqual(file, before, "the image itself stays as it was");
  });

  it("refuses a kernel without the place to patch", () => {
    assert.throws(
      () => patchBootMode(parseImage(sampleImage(), "k")),
      refusal(/kernel k cannot be patched.*nowhere/),
    );
  });

  it("refuses a kernel with two, naming both", () => {
    const image = parseImage(sampleImage([site(1024), site(2048)]), "k");
    assert.throws(() => patchBootMode(image), refusal(/0x400, 0x800/));
  });

  it("takes no notice of the same bytes where no instruction can be", () => {
    const image = parseImage(sampleImage([site(1024), site(2049)]), "k");
    assert.equal(patchBootMode(image).offset, 1024);
  });
});
