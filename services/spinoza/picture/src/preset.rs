//! What is made of a picture: sizes, how they are cut, formats.

use serde::{Deserialize, Serialize};

/// The longest side that is made, in pixels: WebP can hold no more (RFC 9649, section 2.6).
pub const MAX_SIDE: u32 = 16_383;

/// Width and height, in pixels; in text `512x512`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.split_once('x')
            .and_then(|(width, height)| {
                Some(Self { width: width.parse().ok()?, height: height.parse().ok()? })
            })
            .ok_or_else(|| format!("a size is width and height in pixels, such as \"512x512\", not {text:?}"))
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        format!("{}x{}", size.width, size.height)
    }
}

/// How a picture is brought into a size of another shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// The size is filled; what does not fit is cut off around the focus.
    Cover,
    /// All of the picture is seen within the size.
    Within,
}

/// The point around which a picture is cut: 0 is left and top, 1 is right and bottom of the upright picture.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Focus {
    /// Across.
    pub x: f32,
    /// Down.
    pub y: f32,
}

impl Default for Focus {
    fn default() -> Self {
        Self { x: 0.5, y: 0.5 }
    }
}

/// A format that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputFormat {
    /// image/webp
    WebP,
    /// image/jpeg, on white where the picture is transparent.
    Jpeg,
}

impl OutputFormat {
    /// The media type.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::WebP => "image/webp",
            Self::Jpeg => "image/jpeg",
        }
    }

    /// The ending of file names, without the dot.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::WebP => "webp",
            Self::Jpeg => "jpg",
        }
    }
}

/// A format and how well it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The format.
    pub format: OutputFormat,
    /// Of 100.
    pub quality: u8,
}

/// What is made of a picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// How the picture is brought into the sizes.
    pub fit: Fit,
    /// The sizes, largest first.
    pub sizes: Vec<Size>,
    /// Where it is cut, unless the upload says so itself.
    #[serde(default)]
    pub focus: Focus,
    /// The formats that each size is written in.
    pub outputs: Vec<Output>,
}

impl Preset {
    /// Squares of 512, 256 and 64 pixels, as WebP.
    #[must_use]
    pub fn avatar() -> Self {
        Self::of(Fit::Cover, &[(512, 512), (256, 256), (64, 64)])
    }

    /// Three times as wide as high.
    #[must_use]
    pub fn banner() -> Self {
        Self::of(Fit::Cover, &[(1500, 500), (750, 250)])
    }

    /// The whole picture, bounded.
    #[must_use]
    pub fn attachment() -> Self {
        Self::of(Fit::Within, &[(2048, 2048), (640, 640)])
    }

    fn of(fit: Fit, sizes: &[(u32, u32)]) -> Self {
        // The test photograph takes 35 kB as WebP at 512 pixels; at 92 it would take 59.
        Self {
            fit,
            sizes: sizes.iter().map(|&(width, height)| Size { width, height }).collect(),
            focus: Focus::default(),
            outputs: vec![Output { format: OutputFormat::WebP, quality: 82 }],
        }
    }

    /// Whether it can be made.
    ///
    /// # Errors
    /// What is wrong with it, after the name of the field.
    pub fn check(&self) -> Result<(), String> {
        let is_side = |side: u32| (1..=MAX_SIDE).contains(&side);
        if self.sizes.is_empty() {
            return Err("sizes: name at least one, such as \"512x512\"".to_owned());
        }
        if !self.sizes.iter().all(|size| is_side(size.width) && is_side(size.height)) {
            return Err(format!("sizes: each side must be 1 to {MAX_SIDE} pixels"));
        }
        if !self.sizes.is_sorted_by(|a, b| a.width >= b.width && a.height >= b.height) {
            return Err("sizes: name the largest first".to_owned());
        }
        if self.outputs.is_empty() {
            return Err("outputs: name at least one format".to_owned());
        }
        let mut formats = self.outputs.iter().map(|output| output.format);
        if formats.any(|format| self.outputs.iter().filter(|output| output.format == format).count() > 1) {
            return Err("outputs: name each format once".to_owned());
        }
        if !self.outputs.iter().all(|output| (1..=100).contains(&output.quality)) {
            return Err("outputs: quality must be 1 to 100".to_owned());
        }
        if ![self.focus.x, self.focus.y].iter().all(|part| (0.0..=1.0).contains(part)) {
            return Err("focus: x and y must be 0 to 1".to_owned());
        }
        Ok(())
    }
}
