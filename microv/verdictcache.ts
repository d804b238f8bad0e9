/**
 * Verdicts kept on disk, by everything that they depend on: the code of the function, the claims, the verifier itself.
 *
 * They serve the edit loop: a function that nothing touched is not even executed again. An entry carries a digest of its contents, so
 * damage and careless edits are noticed and reported; whoever recomputes the digest is believed, which is why certifying ignores them.
 */

import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { toolDigest } from "./cache.ts";
import type { Verdict } from "./verify.ts";

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");

export class VerdictCache {
  /** Entries that were not believed, with the reason. */
  readonly rejected: string[] = [];
  private readonly folder: string;
  private readonly common: string;

  /** @param dependencies what every verdict depends on, as text */
  constructor(folder: string, dependencies: string) {
    this.folder = folder;
    this.common = toolDigest() + sha256(dependencies);
    mkdirSync(folder, { recursive: true });
  }

  private key(what: string): string {
    return sha256(this.common + what);
  }

  private path(what: string): string {
    return join(this.folder, `${this.key(what)}.json`);
  }

  /** A verdict, if it is intact: only proofs are kept. */
  get(what: string): Verdict | undefined {
    let text: string;
    try {
      text = readFileSync(this.path(what), "utf8");
    } catch {
      return undefined;
    }
    const end = text.indexOf("\n");
    const contents = text.slice(end + 1);
    if (text.slice(0, end) !== sha256(this.key(what) + contents)) {
      this.rejected.push(
        `cache entry ${this.path(what)} was not used: its contents are not those that were written`,
      );
      return undefined;
    }
    return JSON.parse(contents) as Verdict;
  }

  /** Keeps a verdict, if it is a proof. */
  put(what: string, verdict: Verdict): void {
    if (verdict.status !== "proved") return;
    const contents = JSON.stringify(verdict);
    const path = this.path(what);
    writeFileSync(`${path}.${process.pid}`, `${sha256(this.key(what) + contents)}\n${contents}`);
    renameSync(`${path}.${process.pid}`, path);
  }
}
