/**
 * Installs the workspace's npm packages when they are missing or older than the lock file, so that a fresh
 * clone needs one command. Imported by the `corevisor` command and run before the tests; plain JavaScript,
 * because nothing else is there yet.
 */
import { spawnSync } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const installed = join(root, "node_modules", ".package-lock.json");
const lock = join(root, "package-lock.json");

/** Runs `npm ci` unless node_modules is at least as new as the lock file. Exits with status 2 when it fails. */
export function ensureInstalled() {
  if (existsSync(installed) && statSync(installed).mtimeMs >= statSync(lock).mtimeMs) return;
  process.stderr.write("corevisor: installing npm packages (first run only) ...\n");
  const done = spawnSync("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"], {
    cwd: root,
    stdio: ["ignore", 2, 2],
  });
  if (done.status === 0) return;
  const why = done.error ? done.error.message : `npm ci ended with status ${done.status}`;
  process.stderr.write(
    `corevisor: cannot install npm packages: ${why}; check the network and run "npm ci"\n`,
  );
  process.exit(2);
}

/** Exits with status 2 where Node.js is too old to run the rest. */
function ensureNode() {
  if (Number.parseInt(process.versions.node, 10) >= 20) return;
  process.stderr.write(
    `corevisor: Node.js is ${process.version}, older than 20; install Node.js 20 or newer\n`,
  );
  process.exit(2);
}

ensureNode();
ensureInstalled();
