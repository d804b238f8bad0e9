import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { exists } from "./cache.ts";
import { BootError } from "./error.ts";
import type { Job } from "./job.ts";
import {
  arePackagesCached,
  fetchPackages,
  type PackageSet,
  resolvedMetapackage,
  resolveMetapackage,
} from "./packages.ts";

/** A kernel of Debian's, unpacked. */
export interface KernelPackage {
  /** `linux-image-6.12.117+deb12-cloud-arm64`. */
  readonly name: string;
  /** `6.12.117+deb12-cloud-arm64`. */
  readonly release: string;
  /** The path of its Image. */
  readonly image: string;
  /** The folder `lib/modules/RELEASE`. */
  readonly modules: string;
}

/** The Linux version whose KVM the core speaks to. */
const version = "6.12";

const metapackage = {
  purpose: `Linux ${version}`,
  candidates: [`linux-image-${version}-cloud-arm64`, "linux-image-cloud-arm64"],
  prefix: `linux-image-${version}.`,
  architecture: "arm64",
} as const;

const kernelSet = (name: string): PackageSet => ({
  purpose: `Linux ${version}`,
  names: [name],
  architecture: "arm64",
  dependencies: false,
});

/** The release of Debian's kernel in the cache, or undefined when it has to be fetched. */
export async function cachedKernelRelease(job: Pick<Job, "cache">): Promise<string | undefined> {
  const name = await resolvedMetapackage(job, metapackage);
  if (name === undefined || !(await arePackagesCached(job, kernelSet(name)))) return undefined;
  return name.slice("linux-image-".length);
}

/**
 * Debian's Linux 6.12 for arm64 virtual machines, from the cache or the archive.
 * @throws BootError see fetchPackages
 */
export async function fetchKernel(job: Job): Promise<KernelPackage> {
  const name = await resolveMetapackage(job, metapackage);
  const { root } = await fetchPackages(job, kernelSet(name));
  const release = name.slice("linux-image-".length);
  for (const folder of ["lib/modules", "usr/lib/modules"]) {
    const modules = join(root, folder, release);
    if (!(await exists(modules))) continue;
    const image = (await readdir(join(root, "boot"))).find((file) => file.startsWith("vmlinuz-"));
    if (image !== undefined) return { name, release, image: join(root, "boot", image), modules };
  }
  throw new BootError(`package ${name} has no kernel or no modules`, `remove ${root} and run again`);
}
