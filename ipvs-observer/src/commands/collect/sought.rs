//! Services that were asked for and are in no table.
//!
//! One that is missing may be misspelt, or not there yet: it is told once, is a state at every gather, and ends when
//! the service comes.

use crate::{log, model::Snapshot, settings::ServiceSpec};

/// What is known of each service that was asked for.
pub(super) struct Sought {
    services: Vec<(ServiceSpec, bool)>,
}

impl Sought {
    pub(super) fn new(services: &[ServiceSpec]) -> Self {
        Self {
            services: services.iter().map(|&service| (service, false)).collect(),
        }
    }

    /// Looks for them in the tables of a gather: it is enough if one has it. While a table is not read whole, what it
    /// lacks is not known to be missing, and the state stays as it was.
    pub(super) fn look<'a>(&mut self, tables: &(impl Iterator<Item = &'a Snapshot> + Clone)) {
        let mut all = tables.clone();
        let whole = tables.clone().next().is_some() && all.all(|table| table.services_in_namespace.is_some());
        for (service, missing) in &mut self.services {
            let named = |table: &Snapshot| {
                let mut servers = table.virtual_servers().iter();
                servers.any(|server| service.matches(&server.service.key))
            };
            let found = tables.clone().any(named);
            if found && *missing {
                log::write(
                    log::Level::Info,
                    &format!("service {service} was added, and is gathered"),
                );
            } else if whole && !found && !*missing {
                log::write(
                    log::Level::Warning,
                    &format!(
                        "there is no service {service}, so nothing is gathered for that --service until it is added; \
                         `ipvsadm -Ln` lists the services that there are"
                    ),
                );
            }
            *missing = !found && (whole || *missing);
        }
    }

    /// The missing ones, in a few words that stay the same while they are; none if none is missing.
    pub(super) fn missing(&self) -> Option<String> {
        let mut missing = self.services.iter().filter(|service| service.1);
        let first = missing.next()?.0;
        Some(match missing.count() {
            0 => format!("no service {first}"),
            more => format!("no service {first} and {more} more"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Family, Name, Service, ServiceFlags, ServiceKey, Stats};

    fn table(keys: &[ServiceKey]) -> Snapshot {
        let mut table = Snapshot::default();
        for &key in keys {
            table.push_service(Service {
                key,
                scheduler: Name::from("rr"),
                flags: ServiceFlags(0),
                timeout: 0,
                netmask: 0,
                persistence_engine: Name::default(),
                stats: Stats::default(),
            });
        }
        table.services_in_namespace = Some(keys.len());
        table
    }

    fn mark(mark: u32, family: Family) -> ServiceKey {
        ServiceKey::Fwmark { family, mark }
    }

    fn sought(services: &[&str]) -> Sought {
        let parsed: Vec<_> = services
            .iter()
            .map(|text| text.parse().expect("a service"))
            .collect();
        Sought::new(&parsed)
    }

    #[test]
    fn one_table_and_one_family_of_a_mark_are_enough() {
        let mut sought = sought(&["fwmark:1", "fwmark:2/inet6"]);
        let tables = [table(&[mark(1, Family::INET6)]), table(&[mark(2, Family::INET6)])];
        sought.look(&tables.iter());
        assert_eq!(sought.missing(), None);
        let tables = [table(&[mark(2, Family::INET)]), table(&[])];
        sought.look(&tables.iter());
        assert_eq!(
            sought.missing().as_deref(),
            Some("no service fwmark:1 and 1 more")
        );
    }

    #[test]
    fn a_table_that_was_not_read_changes_nothing_but_what_was_found() {
        let mut unread = table(&[]);
        unread.services_in_namespace = None;
        let mut sought = sought(&["fwmark:1"]);
        sought.look(&[&unread].into_iter());
        assert_eq!(sought.missing(), None, "not known");
        sought.look(&std::iter::empty());
        assert_eq!(sought.missing(), None, "no table at all");
        sought.look(&[&table(&[])].into_iter());
        assert_eq!(sought.missing().as_deref(), Some("no service fwmark:1"));
        sought.look(&[&unread].into_iter());
        assert_eq!(
            sought.missing().as_deref(),
            Some("no service fwmark:1"),
            "as it was"
        );
        sought.look(&[&unread, &table(&[mark(1, Family::INET)])].into_iter());
        assert_eq!(sought.missing(), None);
    }
}
