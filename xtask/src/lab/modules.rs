//! The modules of a kernel: which ones the guest has, and the archive of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{archive::Archive, cache, kernel::Kernel};
use crate::process;

/// Modules that the guest has, each with those that it depends on. A name that ends in `*` stands for all
/// that begin with it. What a kernel has built in, or lacks, is passed over.
const MODULES: &str = "ip_vs* nf_conntrack* nf_nat* nf_defrag* \
    ip_tables ip6_tables iptable_* ip6table_* x_tables xt_mark xt_MARK xt_ipvs xt_conntrack xt_tcpudp \
    xt_MASQUERADE xt_nat xt_addrtype xt_multiport nf_tables nft_compat nft_ct nft_nat nft_masq nft_chain_nat \
    veth dummy ifb tun macvlan ipvlan vrf bridge \
    tunnel4 tunnel6 ip_tunnel ip6_tunnel ipip sit gre ip_gre ip6_gre fou fou6 \
    sctp sctp_diag tcp_diag udp_diag inet_diag netlink_diag unix_diag af_packet \
    libcrc32c crc32c* crct10dif* \
    sch_netem sch_tbf cls_bpf act_bpf pktgen \
    virtio virtio_ring virtio_pci* virtio_console virtio_rng failover net_failover";

/// Where the guest has them. In a Debian /lib is a link, which a folder of that name would replace.
pub(crate) const FOLDER: &str = "/usr/lib/modules";

/// The archive of a kernel's modules, made if it is not there. The caller holds the cache's lock.
pub(crate) fn packed(kernel: &Kernel) -> Result<PathBuf> {
    let what = format!("picking the modules of kernel {}", kernel.version);
    cache::archive(&kernel.folder, "modules", (FOLDER, MODULES), &what, |path| {
        pick_modules(kernel, path)
    })
}

fn pick_modules(kernel: &Kernel, path: &Path) -> Result<()> {
    let scratch = kernel.folder.join("scratch");
    let _ = fs::remove_dir_all(&scratch);
    let all = kernel.unpack(&scratch.join("all"))?;
    let release = all
        .file_name()
        .context("a folder of modules has no name")?
        .to_string_lossy()
        .into_owned();
    depmod(&all, &release)?;
    let picked = scratch.join("picked/lib/modules").join(&release);
    fs::create_dir_all(&picked)?;
    let index = fs::read_to_string(all.join("modules.dep"))?;
    for module in closure(&index) {
        let to = picked.join(&module);
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::copy(all.join(&module), &to)?;
        decompress(&to)?;
    }
    for list in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
        // Some layouts have them in none of the packages; modprobe only warns without.
        let _ = fs::copy(all.join(list), picked.join(list));
    }
    depmod(&picked, &release)?;
    let mut archive = Archive::new(BufWriter::new(File::create(path)?));
    add_tree(&mut archive, &picked, &format!("{FOLDER}/{release}"))?;
    archive.finish()?;
    Ok(fs::remove_dir_all(&scratch)?)
}

/// Writes the index of the modules in `…/lib/modules/RELEASE`.
fn depmod(modules: &Path, release: &str) -> Result<()> {
    let base = modules
        .ancestors()
        .nth(3)
        .context("modules are too near the root")?;
    process::capture(process::command("depmod").arg("-b").arg(base).arg(release)).map(drop)
}

fn decompress(module: &Path) -> Result<()> {
    let tool = match module.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return Ok(()),
    };
    process::capture(process::command(tool).arg("-dqf").arg(module)).map(drop)
}

/// The wanted modules and all that they depend on, out of depmod's `path: path…` lines.
fn closure(index: &str) -> BTreeSet<String> {
    let dependencies: BTreeMap<&str, Vec<&str>> = index
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(module, others)| (module, others.split_whitespace().collect()))
        .collect();
    let mut picked = BTreeSet::new();
    for (module, others) in &dependencies {
        let name = module.rsplit('/').next().unwrap_or(module);
        let name = name.split('.').next().unwrap_or(name).replace('-', "_");
        if MODULES
            .split_whitespace()
            .any(|wanted| match wanted.strip_suffix('*') {
                Some(beginning) => name.starts_with(beginning),
                None => name == wanted,
            })
        {
            // depmod lists indirect dependencies as well.
            picked.insert((*module).to_owned());
            picked.extend(others.iter().map(|other| (*other).to_owned()));
        }
    }
    picked
}

fn add_tree<W: Write>(archive: &mut Archive<W>, host: &Path, guest: &str) -> Result<()> {
    for entry in fs::read_dir(host)? {
        let entry = entry?;
        let path = format!("{guest}/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            add_tree(archive, &entry.path(), &path)?;
        } else {
            archive.copy(&path, &entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wanted_module_brings_its_dependencies_and_no_others_come() {
        let index = "kernel/net/netfilter/ipvs/ip_vs_rr.ko.xz: kernel/net/netfilter/ipvs/ip_vs.ko.xz kernel/lib/x.ko.xz\n\
                     kernel/net/netfilter/ipvs/ip_vs.ko.xz: kernel/lib/x.ko.xz\n\
                     kernel/drivers/gpu/large.ko.xz: kernel/lib/y.ko.xz\n\
                     kernel/crypto/crc32c-generic.ko:\n";
        let picked = closure(index);
        assert_eq!(picked.len(), 4);
        assert!(picked.contains("kernel/lib/x.ko.xz"));
        assert!(
            picked.contains("kernel/crypto/crc32c-generic.ko"),
            "a dash is as good as an underscore"
        );
        assert!(
            !picked
                .iter()
                .any(|module| module.contains("large") || module.contains("/y."))
        );
    }
}
