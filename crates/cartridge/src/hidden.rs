//! Where a match's hidden state lies in its pages.
//!
//! Per layer the convolution state, then each head's state, all i16. A unit never straddles a page:
//! what does not fit begins the next one.

use worldline_abi::{PAGE_DATA, Page};
use worldline_mamba2::{Dims, LayerState};

/// The places of all units of a model's hidden state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HiddenLayout {
    conv_bytes: usize,
    head_bytes: usize,
    heads: usize,
    layers: usize,
}

/// Where a unit begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    page: usize,
    offset: usize,
}

impl HiddenLayout {
    /// The layout of so many layers of these sizes; `None` if a unit is larger than a page's data.
    pub fn new(dims: Dims, layers: usize) -> Option<Self> {
        let conv_bytes = 2 * dims.conv_state();
        let head_bytes = 2 * dims.head_state();
        let fits = conv_bytes <= PAGE_DATA && (1..=PAGE_DATA).contains(&head_bytes);
        fits.then_some(Self {
            conv_bytes,
            head_bytes,
            heads: dims.heads(),
            layers,
        })
    }

    /// Bytes of all units.
    pub const fn bytes(&self) -> usize {
        self.layers * (self.conv_bytes + self.heads * self.head_bytes)
    }

    /// Pages of a match.
    pub fn pages(&self) -> usize {
        let end = self.start_of(self.layers);
        end.page + usize::from(end.offset > 0)
    }

    /// Pages of a match at its start, all zeros.
    #[cfg(feature = "std")]
    pub fn fresh(&self) -> Vec<Page> {
        let count = self.pages() as u16;
        let mut pages: Vec<Page> = (0..count).map(|index| Page::new(index, count)).collect();
        for (index, page) in pages.iter_mut().enumerate() {
            page.header.used = self.used(index) as u32;
        }
        pages
    }

    /// Leading data bytes of page `index` that hold something.
    pub fn used(&self, index: usize) -> usize {
        let mut used = 0;
        let mut start = Place { page: 0, offset: 0 };
        for _ in 0..self.layers {
            let conv = (self.conv_at(start), self.conv_bytes);
            let heads = (0..self.heads).map(|head| (self.head_at(start, head), self.head_bytes));
            for (place, bytes) in core::iter::once(conv).chain(heads) {
                if place.page == index {
                    used = place.offset + bytes;
                }
            }
            start = self.after(start);
        }
        used
    }

    /// Where the search for a layer's first unit begins.
    pub(crate) fn start_of(&self, layer: usize) -> Place {
        (0..layer).fold(Place { page: 0, offset: 0 }, |start, _| self.after(start))
    }

    /// Where the next layer's search begins.
    fn after(&self, start: Place) -> Place {
        let last = self.head_at(start, self.heads - 1);
        Place {
            offset: last.offset + self.head_bytes,
            ..last
        }
    }

    fn conv_at(&self, start: Place) -> Place {
        if start.offset + self.conv_bytes <= PAGE_DATA {
            start
        } else {
            Place {
                page: start.page + 1,
                offset: 0,
            }
        }
    }

    fn head_at(&self, start: Place, head: usize) -> Place {
        let conv = self.conv_at(start);
        let first = conv.offset + self.conv_bytes;
        let here = (PAGE_DATA - first) / self.head_bytes;
        if head < here {
            return Place {
                offset: first + head * self.head_bytes,
                ..conv
            };
        }
        let per_page = PAGE_DATA / self.head_bytes;
        let rest = head - here;
        Place {
            page: conv.page + 1 + rest / per_page,
            offset: rest % per_page * self.head_bytes,
        }
    }
}

/// One layer's state in its pages.
#[derive(Debug)]
pub struct PagedState<'a, 'p> {
    pages: &'a mut [&'p mut Page],
    layout: HiddenLayout,
    start: Place,
}

impl<'a, 'p> PagedState<'a, 'p> {
    /// A layer's state; `pages` are as many as [`HiddenLayout::pages`], or it panics when asked for
    /// one that is not there.
    pub fn new(pages: &'a mut [&'p mut Page], layout: HiddenLayout, layer: usize) -> Self {
        Self {
            pages,
            layout,
            start: layout.start_of(layer),
        }
    }

    /// On to the next layer.
    pub(crate) fn advance(&mut self) {
        self.start = self.layout.after(self.start);
    }

    fn unit(&mut self, place: Place, bytes: usize) -> &mut [i16] {
        bytemuck::cast_slice_mut(
            &mut self.pages[place.page].data[place.offset..place.offset + bytes],
        )
    }
}

impl LayerState for PagedState<'_, '_> {
    fn conv(&mut self) -> &mut [i16] {
        self.unit(self.layout.conv_at(self.start), self.layout.conv_bytes)
    }

    fn head(&mut self, index: usize) -> &mut [i16] {
        self.unit(
            self.layout.head_at(self.start, index),
            self.layout.head_bytes,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(d_model: usize, layers: usize) -> HiddenLayout {
        HiddenLayout::new(
            Dims {
                d_model,
                d_state: 16,
            },
            layers,
        )
        .unwrap()
    }

    #[test]
    fn units_follow_each_other_and_never_straddle_a_page() {
        for (d_model, layers) in [(32, 1), (64, 4), (128, 6), (256, 8), (512, 12)] {
            let layout = layout(d_model, layers);
            let mut next = Place { page: 0, offset: 0 };
            let mut fit = |found: Place, bytes: usize| {
                if next.offset + bytes > PAGE_DATA {
                    next = Place {
                        page: next.page + 1,
                        offset: 0,
                    };
                }
                assert_eq!(found, next);
                next.offset += bytes;
            };
            for layer in 0..layers {
                let start = layout.start_of(layer);
                fit(layout.conv_at(start), layout.conv_bytes);
                (0..layout.heads)
                    .for_each(|head| fit(layout.head_at(start, head), layout.head_bytes));
            }
            assert_eq!(layout.pages(), next.page + 1);
        }
    }

    #[test]
    fn the_interop_world_fits_one_page() {
        let layout = layout(64, 2);
        assert_eq!((layout.bytes(), layout.pages()), (10_112, 1));
        assert_eq!(layout.fresh()[0].header.used, 10_112);
    }
}
