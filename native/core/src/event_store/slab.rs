//! The events of one epoch.

/// The events of one epoch: a vector for each column, and in which order they came.
#[derive(Clone, Debug)]
pub struct Slab<T> {
    columns: Vec<Vec<T>>,
    order: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            columns: Vec::new(),
            order: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    /// How many events there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The events of one column, in the order they came.
    #[must_use]
    pub fn column(&self, column: u32) -> &[T] {
        self.columns.get(column as usize).map_or(&[], Vec::as_slice)
    }

    /// Every event with its column, in the order they came.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let mut at = vec![0_usize; self.columns.len()];
        self.order.iter().map(move |&column| {
            let place = &mut at[column as usize];
            *place += 1;
            (column, &self.columns[column as usize][*place - 1])
        })
    }

    /// Every event, in no order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.columns.iter().flatten()
    }

    pub(super) fn push(&mut self, column: u32, value: T) {
        self.columns_to(column).push(value);
        self.order.push(column);
    }

    pub(super) fn extend(&mut self, column: u32, values: impl Iterator<Item = T>) -> usize {
        let held = self.columns_to(column);
        let before = held.len();
        held.extend(values);
        let more = held.len() - before;
        self.order.resize(self.order.len() + more, column);
        more
    }

    fn columns_to(&mut self, column: u32) -> &mut Vec<T> {
        let column = column as usize;
        if column >= self.columns.len() {
            self.columns.resize_with(column + 1, Vec::new);
        }
        &mut self.columns[column]
    }
}
