import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { systemCode } from "./error.ts";

/**
 * One entry of apt's sources: the fields of a deb822 stanza, keyed by their names as apt spells them (`Types`, `URIs`, `Suites`,
 * `Components`, `Signed-By`, ...).
 */
export type Source = ReadonlyMap<string, string>;

/** The names of Debian's releases and the words that stand for them, with what may follow a name. */
const releases =
  "stable|testing|unstable|sid|experimental|oldstable|oldoldstable|bullseye|bookworm|trixie|forky|duke|rc-buggy";
const debianSuite = new RegExp(
  `^(?:${releases})(?:-(?:updates|security|backports|proposed-updates))?(?:/updates)?/?$`,
);
const components = new Set(["main", "contrib", "non-free", "non-free-firmware"]);

/** Option names of the one-line format beside their deb822 field. */
const optionFields: ReadonlyMap<string, string> = new Map([
  ["arch", "Architectures"],
  ["signed-by", "Signed-By"],
  ["trusted", "Trusted"],
  ["check-valid-until", "Check-Valid-Until"],
  ["check-date", "Check-Date"],
  ["by-hash", "By-Hash"],
]);

/** The entries of a deb822 file (`*.sources`) that are not switched off. */
export function parseDeb822(text: string): Source[] {
  const sources: Source[] = [];
  const uncommented = text
    .split("\n")
    .filter((line) => !line.startsWith("#"))
    .join("\n");
  for (const stanza of uncommented.split(/\n\s*\n/)) {
    const fields = new Map<string, string>();
    let field = "";
    for (const line of stanza.split("\n")) {
      const head = /^([A-Za-z][A-Za-z0-9-]*):(.*)$/.exec(line);
      if (head?.[1] !== undefined) {
        field = canonical(head[1]);
        fields.set(field, (head[2] ?? "").trim());
      } else if (field !== "" && line.trim() !== "") {
        fields.set(field, `${fields.get(field) ?? ""}\n${line}`);
      }
    }
    if (fields.size > 0 && !/^(no|false|off|0|without|disable)$/i.test(fields.get("Enabled") ?? "yes")) {
      sources.push(fields);
    }
  }
  return sources;
}

/** The entries of a one-line-style file (`*.list`). */
export function parseOneLine(text: string): Source[] {
  const sources: Source[] = [];
  for (const line of text.split("\n")) {
    const entry = /^\s*(deb|deb-src)\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)\s*([^#]*)/.exec(line);
    if (!entry) continue;
    const [, type = "", options = "", uri = "", suite = "", parts = ""] = entry;
    const fields = new Map([
      ["Types", type],
      ["URIs", uri],
      ["Suites", suite],
      ["Components", parts.trim()],
    ]);
    for (const option of options.split(/\s+/)) {
      const [name = "", value = ""] = option.split("=");
      const field = optionFields.get(name.toLowerCase());
      if (field !== undefined) fields.set(field, value.replaceAll(",", " "));
    }
    sources.push(fields);
  }
  return sources;
}

/**
 * Whether an entry is Debian's own archive: signed by a keyring of Debian's, or, where it names no key, with Debian's suites
 * and components. Other archives may replace packages by builds of their own, and are left alone.
 */
export function isDebianArchive(source: Source): boolean {
  if (!words(source, "Types").includes("deb")) return false;
  const uris = words(source, "URIs");
  if (uris.length === 0 || uris.some((uri) => uri.startsWith("cdrom:"))) return false;
  if (!words(source, "Components").includes("main")) return false;
  const key = source.get("Signed-By") ?? "";
  if (key.startsWith("/")) return /\/debian-archive-[^/]*$/.test(key);
  const suites = words(source, "Suites");
  return (
    suites.length > 0 &&
    suites.every((suite) => debianSuite.test(suite)) &&
    words(source, "Components").every((component) => components.has(component))
  );
}

/** The entries as one deb822 file: binary packages only, for whichever architecture apt is asked. */
export function formatDeb822(sources: readonly Source[]): string {
  const dropped = new Set(["Types", "Architectures", "Enabled", "Languages", "Targets"]);
  return sources
    .map((source) => {
      const kept = [...source].filter(([field]) => !dropped.has(field));
      return ["Types: deb", ...kept.map(([field, value]) => `${field}: ${value}`)].join("\n");
    })
    .join("\n\n")
    .concat("\n");
}

/**
 * The entries of this system's apt configuration that are Debian's own.
 * @param folder apt's configuration folder
 */
export async function debianSources(folder = "/etc/apt"): Promise<Source[]> {
  const files = [join(folder, "sources.list")];
  for (const name of (await listFolder(join(folder, "sources.list.d"))).sort()) {
    files.push(join(folder, "sources.list.d", name));
  }
  const sources: Source[] = [];
  for (const file of files) {
    if (file.endsWith(".sources")) sources.push(...parseDeb822(await readOrEmpty(file)));
    if (file.endsWith(".list")) sources.push(...parseOneLine(await readOrEmpty(file)));
  }
  return sources.filter(isDebianArchive);
}

function words(source: Source, field: string): string[] {
  return (source.get(field) ?? "").split(/\s+/).filter((word) => word !== "");
}

/** Field names are case-insensitive in deb822; this is the spelling of apt's manual. */
function canonical(field: string): string {
  if (field.toLowerCase() === "uris") return "URIs";
  return field
    .toLowerCase()
    .split("-")
    .map((part) => part.charAt(0).toUpperCase() + part.slice(1))
    .join("-");
}

async function readOrEmpty(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (systemCode(error) === "ENOENT" || systemCode(error) === "EACCES") return "";
    throw error;
  }
}

async function listFolder(path: string): Promise<string[]> {
  try {
    return await readdir(path);
  } catch (error) {
    if (systemCode(error) === "ENOENT") return [];
    throw error;
  }
}
