//! Which part of a stored picture is seen in a size, and how large that size becomes.

use super::exif::Orientation;
use super::preset::{Fit, Preset, Size};

/// A part of a picture, in its pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) left: u32,
    pub(super) top: u32,
    pub(super) width: u32,
    pub(super) height: u32,
}

/// A part of the stored picture and the size that it is brought to, before it is turned upright.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) area: Area,
    pub(super) size: Size,
}

/// What is made of a picture of `stored` pixels, largest first, each size once.
pub(super) fn plans(stored: Size, orientation: Orientation, preset: &Preset) -> Vec<Plan> {
    let mut plans = Vec::new();
    for size in &preset.sizes {
        let plan = plan(stored, orientation, preset, *size);
        if !plans.contains(&plan) {
            plans.push(plan);
        }
    }
    plans
}

fn plan(stored: Size, orientation: Orientation, preset: &Preset, wanted: Size) -> Plan {
    let upright = turned(stored, orientation);
    let area = match preset.fit {
        Fit::Within => Area { left: 0, top: 0, width: upright.width, height: upright.height },
        Fit::Cover => {
            let shape = within(wanted, upright);
            let start = |focus: f32, side: u32, of: u32| {
                let centre = f64::from(focus) * f64::from(of);
                let start = (centre - f64::from(side) / 2.0).floor();
                whole(start.clamp(0.0, f64::from(of - side)))
            };
            Area {
                left: start(preset.focus.x, shape.width, upright.width),
                top: start(preset.focus.y, shape.height, upright.height),
                width: shape.width,
                height: shape.height,
            }
        }
    };
    let shape = Size { width: area.width, height: area.height };
    // Never larger than what it is made from.
    let size = match preset.fit {
        Fit::Cover if shape.width < wanted.width || shape.height < wanted.height => shape,
        Fit::Cover => wanted,
        Fit::Within if shape.width <= wanted.width && shape.height <= wanted.height => shape,
        Fit::Within => within(shape, wanted),
    };
    Plan { area: stored_area(area, stored, orientation), size: turned(size, orientation) }
}

/// The largest size of the shape of `shape` within `bounds`.
fn within(shape: Size, bounds: Size) -> Size {
    let across = f64::from(bounds.width) / f64::from(shape.width.max(1));
    let down = f64::from(bounds.height) / f64::from(shape.height.max(1));
    let factor = across.min(down);
    let side = |side: u32, bound: u32| whole((f64::from(side) * factor).round()).clamp(1, bound.max(1));
    Size { width: side(shape.width, bounds.width), height: side(shape.height, bounds.height) }
}

/// The size once it is turned, which is the same in both directions.
const fn turned(size: Size, orientation: Orientation) -> Size {
    if orientation.is_sideways() { Size { width: size.height, height: size.width } } else { size }
}

/// Where an area of the upright picture lies in the stored one.
const fn stored_area(area: Area, stored: Size, orientation: Orientation) -> Area {
    let Area { left, top, width, height } = area;
    let (from_right, from_bottom) = if orientation.is_sideways() {
        (stored.width - top - height, stored.height - left - width)
    } else {
        (stored.width - left - width, stored.height - top - height)
    };
    match orientation.number() {
        2 => Area { left: from_right, top, width, height },
        3 => Area { left: from_right, top: from_bottom, width, height },
        4 => Area { left, top: from_bottom, width, height },
        5 => Area { left: top, top: left, width: height, height: width },
        6 => Area { left: top, top: from_bottom, width: height, height: width },
        7 => Area { left: from_right, top: from_bottom, width: height, height: width },
        8 => Area { left: from_right, top: left, width: height, height: width },
        _ => area,
    }
}

#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast of a float saturates"
)]
fn whole(value: f64) -> u32 {
    value as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn size(width: u32, height: u32) -> Size {
        Size { width, height }
    }

    fn made(stored: (u32, u32), preset: &Preset) -> Vec<(Area, (u32, u32))> {
        plans(size(stored.0, stored.1), Orientation::UPRIGHT, preset)
            .into_iter()
            .map(|plan| (plan.area, (plan.size.width, plan.size.height)))
            .collect()
    }

    #[test]
    fn a_cover_is_cut_around_its_focus() {
        let mut preset = Preset::avatar();
        let area = |left, top, side| Area { left, top, width: side, height: side };
        let first = |preset: &Preset, stored| made(stored, preset)[0].0;
        assert_eq!(first(&preset, (1200, 800)), area(200, 0, 800));
        assert_eq!(first(&preset, (800, 1200)), area(0, 200, 800));
        for (x, left) in [(0.0, 0), (0.1, 0), (0.4, 80), (0.9, 400), (1.0, 400)] {
            preset.focus.x = x;
            assert_eq!(first(&preset, (1200, 800)), area(left, 0, 800), "{x}");
        }
    }

    #[test]
    fn nothing_is_larger_than_the_original_and_no_size_is_made_twice() {
        let sizes = |stored, preset: &Preset| {
            made(stored, preset).into_iter().map(|(_, size)| size).collect::<Vec<_>>()
        };
        assert_eq!(sizes((2000, 1000), &Preset::avatar()), [(512, 512), (256, 256), (64, 64)]);
        assert_eq!(sizes((300, 200), &Preset::avatar()), [(200, 200), (64, 64)]);
        assert_eq!(sizes((20, 3000), &Preset::avatar()), [(20, 20)]);
        assert_eq!(sizes((900, 900), &Preset::banner()), [(900, 300), (750, 250)]);
        assert_eq!(sizes((4000, 3000), &Preset::attachment()), [(2048, 1536), (640, 480)]);
        assert_eq!(sizes((300, 500), &Preset::attachment()), [(300, 500)]);
        assert_eq!(sizes((16_000, 2), &Preset::attachment()), [(2048, 1), (640, 1)]);
    }
}
