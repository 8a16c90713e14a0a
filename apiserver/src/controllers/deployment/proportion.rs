//! A change of size in the middle of a roll: every set gets its share.

use super::draft::{DESIRED_ANNOTATION, Draft, MAX_ANNOTATION, Member};

impl Draft<'_> {
    /// Says whether the Deployment's size changed since its sets were last sized.
    pub(super) fn is_resized(&self) -> bool {
        let wanted = self.wanted();
        self.sets
            .iter()
            .filter(|member| member.replicas() > 0)
            .any(|member| {
                let noted: Option<i32> = member
                    .annotation(DESIRED_ANNOTATION)
                    .and_then(|text| text.parse().ok());
                noted.is_some_and(|noted| noted != wanted)
            })
    }

    /// Sizes the sets for the Deployment's size without rolling further.
    pub(super) fn resize(&mut self) {
        if let Some(index) = self.active_or_latest() {
            self.scale(index, self.wanted());
            return;
        }
        if self.is_saturated() {
            for index in self.old_indices() {
                if self.sets[index].replicas() > 0 {
                    self.scale(index, 0);
                }
            }
            return;
        }
        if !self.is_recreate() {
            self.share();
        }
    }

    /// The only set with pods; without any, the current or else the newest one.
    fn active_or_latest(&self) -> Option<usize> {
        let active: Vec<usize> = (0..self.sets.len())
            .filter(|index| self.sets[*index].replicas() > 0)
            .collect();
        match active.as_slice() {
            [] => self.current.or(self.sets.len().checked_sub(1)),
            [only] => Some(*only),
            _ => None,
        }
    }

    fn is_saturated(&self) -> bool {
        let wanted = self.wanted();
        self.current().is_some_and(|current| {
            let noted = current
                .annotation(DESIRED_ANNOTATION)
                .and_then(|text| text.parse().ok());
            current.replicas() == wanted && noted == Some(wanted) && current.available() == wanted
        })
    }

    fn share(&mut self) {
        let wanted = self.wanted();
        let allowed = if wanted > 0 {
            wanted + self.bounds().surge
        } else {
            0
        };
        let added_total = allowed - self.total_replicas();
        let mut order: Vec<usize> = (0..self.sets.len())
            .filter(|index| self.sets[*index].replicas() > 0)
            .collect();
        // Sets are oldest first; growing favours the larger and newer, shrinking the larger and older.
        if added_total > 0 {
            order.reverse();
        }
        order.sort_by_key(|index| std::cmp::Reverse(self.sets[*index].replicas()));
        let mut added = 0;
        let mut sizes: Vec<(usize, i32)> = Vec::new();
        for index in order {
            let part = self.proportion(&self.sets[index], added_total, added);
            added += part;
            sizes.push((index, self.sets[index].replicas() + part));
        }
        if let Some((_, size)) = sizes.first_mut() {
            *size = (*size + added_total - added).max(0);
        }
        for (index, size) in sizes {
            self.scale(index, size);
        }
    }

    fn proportion(&self, member: &Member, added_total: i32, added: i32) -> i32 {
        if member.replicas() == 0 || added_total == 0 || added_total == added {
            return 0;
        }
        let fraction = self.fraction(member);
        let allowed = added_total - added;
        if added_total > 0 {
            fraction.min(allowed)
        } else {
            fraction.max(allowed)
        }
    }

    fn fraction(&self, member: &Member) -> i32 {
        let (wanted, replicas) = (self.wanted(), member.replicas());
        if wanted == 0 {
            return -replicas;
        }
        let max = f64::from(wanted + self.bounds().surge);
        let noted: Option<i32> = member
            .annotation(MAX_ANNOTATION)
            .and_then(|text| text.parse().ok());
        let status = self
            .deployment
            .status
            .as_ref()
            .and_then(|status| status.replicas);
        let before = noted
            .filter(|noted| *noted > 0)
            .or(status)
            .filter(|before| *before > 0);
        let Some(before) = before else { return 0 };
        let size = (f64::from(replicas) * max / f64::from(before)).round();
        // Sizes are 32 bits wide on both sides, so the rounded ratio is in range or saturates.
        (size as i32).saturating_sub(replicas)
    }
}
