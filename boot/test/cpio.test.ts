import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { type CpioEntry, formatCpio } from "../cpio.ts";

interface Unpacked {
  readonly path: string;
  readonly mode: number;
  readonly data: Buffer;
  readonly device: string;
}

/** Reads an archive as the kernel's init/initramfs.c does. */
function unpack(archive: Buffer): Unpacked[] {
  const entries: Unpacked[] = [];
  const inodes = new Set<number>();
  let at = 0;
  for (;;) {
    assert.equal(archive.toString("latin1", at, at + 6), "070701", `magic at ${at}`);
    assert.equal(at % 4, 0, "headers are aligned");
    const field = (index: number) =>
      Number.parseInt(archive.toString("latin1", at + 6 + index * 8, at + 14 + index * 8), 16);
    const path = archive.toString("utf8", at + 110, at + 110 + field(11) - 1);
    const start = (at + 110 + field(11) + 3) & ~3;
    const data = archive.subarray(start, start + field(6));
    const entry = { path, mode: field(1), data, device: `${field(9)}:${field(10)}` };
    const inode = field(0);
    at = (start + field(6) + 3) & ~3;
    if (path === "TRAILER!!!") break;
    assert.ok(!inodes.has(inode), "inode numbers differ, or the kernel would link files");
    inodes.add(inode);
    entries.push(entry);
  }
  assert.equal(at, archive.length, "nothing follows");
  return entries;
}

const pack = (entries: readonly CpioEntry[]) => Buffer.concat(formatCpio(entries));

describe("an archive", () => {
  it("holds files as they were, whatever their size", () => {
    const files = fc.uniqueArray(
      fc.record({
        name: fc.stringMatching(/^[a-z]{1,9}$/),
        data: fc.uint8Array({ maxLength: 40 }),
        executable: fc.boolean(),
      }),
      { selector: ({ name }) => name },
    );
    fc.assert(
      fc.property(files, (list) => {
        const entries = unpack(
          pack(list.map(({ name, ...rest }) => ({ path: name, kind: "file", ...rest }))),
        );
        assert.deepEqual(
          entries.map(({ path, mode, data }) => [path, mode, [...data]]),
          list.map(({ name, data, executable }) => [name, executable ? 0o100755 : 0o100644, [...data]]),
        );
      }),
    );
  });

  it("holds folders, links and devices, and adds folders that are missing, once", () => {
    const entries = unpack(
      pack([
        { path: "lib/modules/a.ko", kind: "file", data: Buffer.from("a") },
        { path: "lib/modules/b.ko", kind: "file", data: Buffer.from("b") },
        { path: "proc", kind: "folder" },
        { path: "lib", kind: "folder" },
        { path: "bin/sh", kind: "link", target: "busybox" },
        { path: "dev/console", kind: "device", major: 5, minor: 1 },
      ]),
    );
    assert.deepEqual(
      entries.map(({ path, mode }) => `${path} ${mode.toString(8)}`),
      [
        "lib 40755",
        "lib/modules 40755",
        "lib/modules/a.ko 100644",
        "lib/modules/b.ko 100644",
        "proc 40755",
        "bin 40755",
        "bin/sh 120777",
        "dev 40755",
        "dev/console 20600",
      ],
    );
    assert.equal(entries.find(({ path }) => path === "bin/sh")?.data.toString(), "busybox");
    assert.equal(entries.find(({ path }) => path === "dev/console")?.device, "5:1");
  });

  it("is the same for the same entries", () => {
    const entries: CpioEntry[] = [{ path: "a/b", kind: "file", data: Buffer.from("x") }];
    assert.deepEqual(pack(entries), pack(entries));
  });

  it("takes no path twice, and none that leads outside", () => {
    const file = (path: string): CpioEntry => ({ path, kind: "file", data: Buffer.alloc(0) });
    assert.throws(() => pack([file("init"), file("init")]), /init stands twice/);
    for (const path of ["", "/init", "../init", "a/../b", "./a", "a//b"]) {
      assert.throws(() => pack([file(path)]), TypeError, path);
    }
  });
});
