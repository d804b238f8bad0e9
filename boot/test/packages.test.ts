import assert from "node:assert/strict";
import { readdir, readFile, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";
import { BootError } from "../error.ts";
import {
  arePackagesCached,
  fetchPackages,
  type PackageSet,
  packageSetKey,
  resolveMetapackage,
} from "../packages.ts";
import { debianSources } from "../sources.ts";
import { commandsOnPath, temporaryFolder, testJob } from "./samples.ts";

const set: PackageSet = { purpose: "a tool", names: ["tool"], architecture: "arm64", dependencies: true };

/** An apt-get that logs what it is asked, tells progress, and "downloads" to where it is told; then what else is given. */
const aptGet = (log: string, extra = "") => `#!/bin/sh
echo "$*" >> ${log}
archives=$(pwd)
for word in "$@"; do case $word in Dir::Cache::archives=*) archives=\${word#*=} ;; esac; done
case "$*" in *update*) word=update ;; *) word=fetch ;; esac
${extra}
[ $word = update ] && exit 0
echo "dlstatus:1:50.5:half" >&3
echo content > "$archives/tool_1%3a2.0_arm64.deb"
`;
const dpkgDeb = `#!/bin/sh
mkdir -p "$3/usr/bin" && echo tool > "$3/usr/bin/tool"
`;
const aptCache = `#!/bin/sh
for word in "$@"; do last=$word; done
[ "$last" = linux-image-6.12-cloud-arm64 ] && echo "Depends: kmod, linux-image-6.12.9+deb12-cloud-arm64 (= 6.12.9-1)"
exit 0
`;

const refused = (pattern: RegExp) => (error: unknown) => {
  assert.ok(error instanceof BootError, `${error}`);
  assert.match(error.message, pattern);
  assert.ok(!error.message.includes("\n"), "one line");
  return true;
};

const haveSources = (await debianSources()).length > 0;

describe("fetching packages", { skip: !haveSources && "this system has no Debian sources" }, () => {
  it("updates the lists, downloads and unpacks once, and then needs neither network nor apt", async (test) => {
    const job = await testJob(test);
    const log = join(await temporaryFolder(test), "log");
    await commandsOnPath(test, { "apt-get": aptGet(log), "apt-cache": aptCache, "dpkg-deb": dpkgDeb });
    assert.equal(await arePackagesCached(job, set), false);
    const { root, packages } = await fetchPackages(job, set);
    assert.deepEqual(packages, ["tool_1:2.0_arm64"]);
    assert.equal(await readFile(join(root, "usr/bin/tool"), "utf8"), "tool\n");
    const asked = (await readFile(log, "utf8")).trim().split("\n");
    assert.equal(asked.length, 2);
    assert.match(asked[0] ?? "", /update$/);
    assert.match(asked[1] ?? "", /--download-only --yes install tool$/);
    assert.ok(job.told.some(({ stage, fraction }) => stage === "downloading a tool" && fraction === 0.505));
    process.env.PATH = "";
    assert.deepEqual(await fetchPackages(job, set), { root, packages });
    assert.equal(await arePackagesCached(job, set), true);
    assert.deepEqual(await readdir(join(job.cache.root, "apt/arm64/archives")), [], "the downloads are gone");
  });

  it("fetches the lists again when fresh ones turn out to be stale", async (test) => {
    const job = await testJob(test);
    const folder = await temporaryFolder(test);
    const log = join(folder, "log");
    const stale = `if [ $word = fetch ] && [ "$(grep -c update ${log})" -lt 2 ]; then
      echo "E: Failed to fetch tool.deb  404  Not Found" >&2; exit 100
    fi`;
    await commandsOnPath(test, { "apt-get": aptGet(log, stale), "apt-cache": aptCache, "dpkg-deb": dpkgDeb });
    await assert.rejects(
      fetchPackages(job, set),
      refused(/404/),
      "lists that were fetched just now are not to blame",
    );
    await fetchPackages(job, set);
    const words = (await readFile(log, "utf8"))
      .trim()
      .split("\n")
      .map((line) => line.split(" ").at(-1));
    assert.deepEqual(words, ["update", "tool", "tool", "update", "tool"]);
  });

  it("fetches the lists again when they are old", async (test) => {
    const job = await testJob(test);
    const log = join(await temporaryFolder(test), "log");
    await commandsOnPath(test, { "apt-get": aptGet(log), "apt-cache": aptCache, "dpkg-deb": dpkgDeb });
    await fetchPackages(job, set);
    await fetchPackages(job, { ...set, names: ["other"] });
    const updates = async () => (await readFile(log, "utf8")).match(/update$/gm)?.length;
    assert.equal(await updates(), 1);
    const longAgo = new Date(Date.now() - 3 * 24 * 3600 * 1000);
    await utimes(join(job.cache.root, "apt/arm64/updated"), longAgo, longAgo);
    await fetchPackages(job, { ...set, names: ["third"] });
    assert.equal(await updates(), 2);
  });

  it("says in one line what cannot be had, and why", async (test) => {
    const cases: readonly (readonly [string, RegExp])[] = [
      [
        "E: Failed to fetch tool.deb  Temporary failure resolving 'mirror'",
        /cannot download a tool: .*resolving.*check the network/,
      ],
      ["E: Unable to locate package tool", /no package tool; add the current Debian stable/],
      ["E: You don't have enough free space in /x/archives/.", /the disk is full/],
      ["E: Write error - write (28: No space left on device)", /the disk is full/],
      ["E: Something odd", /apt-get failed for a tool: Something odd/],
    ];
    for (const [words, expected] of cases) {
      const job = await testJob(test);
      const log = join(await temporaryFolder(test), "log");
      const failing = `[ $word = fetch ] && { echo "${words}" >&2; exit 100; }`;
      await commandsOnPath(test, {
        "apt-get": aptGet(log, failing),
        "apt-cache": aptCache,
        "dpkg-deb": dpkgDeb,
      });
      await assert.rejects(fetchPackages(job, set), refused(expected), words);
      assert.equal(await arePackagesCached(job, set), false);
    }
  });

  it("leaves no half-unpacked set behind", async (test) => {
    const job = await testJob(test);
    const log = join(await temporaryFolder(test), "log");
    const full = `#!/bin/sh\nmkdir -p "$3/usr"; echo "tar: No space left on device" >&2; exit 2\n`;
    await commandsOnPath(test, { "apt-get": aptGet(log), "apt-cache": aptCache, "dpkg-deb": full });
    await assert.rejects(fetchPackages(job, set), refused(/the disk is full/));
    assert.deepEqual(await readdir(join(job.cache.root, "packages")), []);
    await commandsOnPath(test, { "apt-get": aptGet(log), "apt-cache": aptCache, "dpkg-deb": dpkgDeb });
    await fetchPackages(job, set);
  });

  it("names the command that is missing", async (test) => {
    const job = await testJob(test);
    await commandsOnPath(test, {}, "hidden");
    await assert.rejects(
      fetchPackages(job, set),
      refused(/^apt-get is missing.*install apt on a Debian system/),
    );
    await commandsOnPath(test, { "apt-get": "#!/bin/sh\n", "apt-cache": "#!/bin/sh\n" }, "hidden");
    await assert.rejects(fetchPackages(job, set), refused(/^dpkg-deb is missing/));
  });

  it("stops at once when it is aborted, and apt-get with it", async (test) => {
    const controller = new AbortController();
    const job = await testJob(test, controller.signal);
    const log = join(await temporaryFolder(test), "log");
    await commandsOnPath(test, {
      "apt-get": aptGet(log, "sleep 600"),
      "apt-cache": aptCache,
      "dpkg-deb": dpkgDeb,
    });
    setTimeout(() => controller.abort(new Error("stop")), 300);
    const begin = performance.now();
    await assert.rejects(fetchPackages(job, set), /stop/);
    assert.ok(performance.now() - begin < 5000);
  });

  it("refuses a set whose record is damaged", async (test) => {
    const job = await testJob(test);
    const log = join(await temporaryFolder(test), "log");
    await commandsOnPath(test, { "apt-get": aptGet(log), "apt-cache": aptCache, "dpkg-deb": dpkgDeb });
    await fetchPackages(job, set);
    const folder = join(job.cache.root, "packages", packageSetKey(set));
    await writeFile(join(folder, "manifest.json"), "{");
    await assert.rejects(fetchPackages(job, set), refused(/manifest\.json is damaged; remove the folder/));
  });
});

describe("the key of a package set", () => {
  it("is the same for the same request in another order, and differs otherwise", () => {
    const two = { ...set, names: ["a", "b"] };
    assert.equal(packageSetKey({ ...two, purpose: "other words" }), packageSetKey(two));
    assert.notEqual(packageSetKey({ ...two, architecture: "native" }), packageSetKey(two));
    assert.notEqual(packageSetKey({ ...two, dependencies: false }), packageSetKey(two));
    assert.notEqual(packageSetKey({ ...two, names: ["a", "c"] }), packageSetKey(two));
  });
});

describe("a metapackage", { skip: !haveSources && "this system has no Debian sources" }, () => {
  const kernel = {
    purpose: "Linux",
    candidates: ["linux-image-cloud-arm64", "linux-image-6.12-cloud-arm64"],
    prefix: "linux-image-6.12.",
    architecture: "arm64",
  } as const;

  it("stands for the first candidate's dependency, and is remembered", async (test) => {
    const job = await testJob(test);
    const log = join(await temporaryFolder(test), "log");
    await commandsOnPath(test, { "apt-get": aptGet(log), "apt-cache": aptCache, "dpkg-deb": dpkgDeb });
    assert.equal(await resolveMetapackage(job, kernel), "linux-image-6.12.9+deb12-cloud-arm64");
    process.env.PATH = "";
    assert.equal(await resolveMetapackage(job, kernel), "linux-image-6.12.9+deb12-cloud-arm64");
  });

  it("that the archive does not have is named", async (test) => {
    const job = await testJob(test);
    const log = join(await temporaryFolder(test), "log");
    await commandsOnPath(test, { "apt-get": aptGet(log), "apt-cache": aptCache, "dpkg-deb": dpkgDeb });
    const wanted = { ...kernel, prefix: "linux-image-7.0." };
    await assert.rejects(
      resolveMetapackage(job, wanted),
      refused(/Linux: your Debian package sources have no package linux-image-7\.0\./),
    );
  });
});
