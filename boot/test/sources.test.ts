import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";
import { debianSources, formatDeb822, isDebianArchive, parseDeb822, parseOneLine } from "../sources.ts";
import { temporaryFolder } from "./samples.ts";

const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
const deb822 = `# The archive
Types: deb deb-src
URIs: mirror:/etc/apt/mirrors
Suites: bookworm bookworm-updates
Components: main
Architectures: amd64
Signed-By: ${keyring}

Types: deb
uris: mirror:/etc/apt/security
Suites: bookworm-security
# a comment between fields
Components: main
 non-free-firmware
Signed-By: ${keyring}

Types: deb
URIs: mirror:/etc/apt/other
Suites: nodistro
Components: main
Signed-By: /usr/share/keyrings/nodesource.gpg

Enabled: no
Types: deb
URIs: mirror:/etc/apt/off
Suites: bookworm
Components: main
`;

const suitesOf = (sources: readonly ReadonlyMap<string, string>[]) =>
  sources.map((source) => source.get("Suites"));

describe("apt's sources", () => {
  it("in deb822 format are read stanza by stanza, without those switched off", () => {
    const sources = parseDeb822(deb822);
    assert.deepEqual(suitesOf(sources), ["bookworm bookworm-updates", "bookworm-security", "nodistro"]);
    assert.equal(sources[1]?.get("URIs"), "mirror:/etc/apt/security", "field names have any case");
    assert.match(sources[1]?.get("Components") ?? "", /^main\n non-free-firmware$/);
  });

  it("in one-line format are read with their options", () => {
    const sources = parseOneLine(`
# deb mirror:/a bookworm main
deb [arch=amd64,arm64 signed-by=${keyring}] mirror:/a bookworm main contrib # the archive
deb-src mirror:/a bookworm main
not a source
`);
    assert.equal(sources.length, 2);
    assert.equal(sources[0]?.get("Architectures"), "amd64 arm64");
    assert.equal(sources[0]?.get("Signed-By"), keyring);
    assert.equal(sources[0]?.get("Components"), "main contrib");
  });

  it("are Debian's own by its keyring, or by suite and components where no key is named", () => {
    const own = (text: string) => isDebianArchive(parseOneLine(text)[0] ?? new Map());
    assert.ok(own(`deb [signed-by=${keyring}] mirror:/a bookworm main`));
    assert.ok(own("deb mirror:/a bookworm main"));
    assert.ok(own("deb mirror:/a trixie-security main non-free-firmware"));
    assert.ok(own("deb mirror:/a stable-updates main"));
    assert.ok(!own("deb [signed-by=/usr/share/keyrings/nodesource.gpg] mirror:/a bookworm main"));
    assert.ok(!own("deb mirror:/a cloud-sdk-bookworm main"));
    assert.ok(!own("deb mirror:/a nodistro main"));
    assert.ok(!own("deb mirror:/a bookworm stable"), "a third party's component");
    assert.ok(!own("deb mirror:/a bookworm main extra"), "a third party's component beside main");
    assert.ok(!own("deb-src mirror:/a bookworm main"));
    assert.ok(!own("deb cdrom:[Debian]/ bookworm main"));
  });

  it("are found in all files of the folder, and written for any architecture", async (test) => {
    const folder = await temporaryFolder(test);
    await mkdir(join(folder, "sources.list.d"));
    await writeFile(join(folder, "sources.list"), "deb [arch=amd64] mirror:/list bookworm main\n");
    await writeFile(join(folder, "sources.list.d", "debian.sources"), deb822);
    await writeFile(join(folder, "sources.list.d", "old.list.save"), "deb mirror:/save bookworm main\n");
    const sources = await debianSources(folder);
    assert.deepEqual(suitesOf(sources), ["bookworm", "bookworm bookworm-updates", "bookworm-security"]);
    const text = formatDeb822(sources);
    assert.doesNotMatch(text, /Architectures|deb-src/);
    assert.deepEqual(suitesOf(parseDeb822(text)), suitesOf(sources), "it reads back");
    assert.ok(parseDeb822(text).every((source) => source.get("Types") === "deb"));
  });

  it("are none where there is no apt", async (test) => {
    assert.deepEqual(await debianSources(join(await temporaryFolder(test), "none")), []);
  });
});
