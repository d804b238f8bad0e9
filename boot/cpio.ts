import { posix } from "node:path";

/** One entry of an archive. Paths are relative, with `/` between parts and no `.` or `..`. */
export type CpioEntry =
  | { readonly path: string; readonly kind: "file"; readonly data: Uint8Array; readonly executable?: boolean }
  | { readonly path: string; readonly kind: "folder" }
  | { readonly path: string; readonly kind: "link"; readonly target: string }
  | { readonly path: string; readonly kind: "device"; readonly major: number; readonly minor: number };

/** File types and permissions of the mode word (POSIX sys/stat.h). */
const modes = {
  file: 0o100644,
  executable: 0o100755,
  folder: 0o040755,
  link: 0o120777,
  device: 0o020600, // a character device
} as const;

/**
 * The pieces of a `newc` archive, as the kernel unpacks for an initramfs (Documentation/driver-api/early-userspace/
 * buffer-format.rst). Folders that entries lie in are added where they are missing. Everything belongs to root and carries no
 * time, so that the same entries give the same bytes.
 * @throws TypeError when a path is empty, absolute or leads outside, or stands twice
 */
export function formatCpio(entries: readonly CpioEntry[]): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  const seen = new Set<string>();
  let inode = 1;
  const write = (path: string, mode: number, data: Uint8Array, device = { major: 0, minor: 0 }) => {
    const name = Buffer.from(`${path}\0`);
    const fields = [
      inode++,
      mode,
      0, // owner
      0, // group
      1, // links
      0, // time
      data.length,
      0, // device that holds the file, major and minor
      0,
      device.major,
      device.minor,
      name.length,
      0, // checksum, unused in newc
    ];
    const header = `070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`;
    pieces.push(aligned(Buffer.concat([Buffer.from(header), name])), data, padding(data.length));
  };
  const addFolder = (path: string) => {
    if (path === "." || seen.has(path)) return;
    addFolder(posix.dirname(path));
    seen.add(path);
    write(path, modes.folder, new Uint8Array());
  };
  for (const entry of entries) {
    const { path } = entry;
    if (path === "" || posix.isAbsolute(path) || posix.normalize(path) !== path || path.startsWith("..")) {
      throw new TypeError(`not a path inside the archive: ${path}`);
    }
    if (entry.kind === "folder") {
      addFolder(path);
      continue;
    }
    if (seen.has(path)) throw new TypeError(`${path} stands twice in the archive`);
    addFolder(posix.dirname(path));
    seen.add(path);
    switch (entry.kind) {
      case "file":
        write(path, entry.executable ? modes.executable : modes.file, entry.data);
        break;
      case "link":
        write(path, modes.link, Buffer.from(entry.target));
        break;
      case "device":
        write(path, modes.device, new Uint8Array(), entry);
        break;
    }
  }
  write("TRAILER!!!", 0, new Uint8Array());
  return pieces;
}

function aligned(bytes: Uint8Array): Uint8Array {
  return Buffer.concat([bytes, padding(bytes.length)]);
}

function padding(length: number): Uint8Array {
  return new Uint8Array(-length & 3);
}
