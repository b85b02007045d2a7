/* Decodes a JPEG by libjpeg-turbo's own interface, which tells warnings apart by code, as TurboJPEG's does not.
 * Errors of libjpeg leave by longjmp, and never through a frame that is not in this file. */

#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

/* Rows that are asked for at once: as many as come out of one row of blocks. */
enum { ROWS = 16 };
enum { OK = 0, BROKEN = 1, TOO_MANY_SCANS = 2 };
enum { GREY = 0, RGB = 1, CMYK = 2 };

struct orrery_jpeg_info {
  uint32_t width, height;
  uint32_t kind; /* GREY, RGB or CMYK */
};

struct orrery_jpeg {
  struct jpeg_decompress_struct cinfo;
  struct jpeg_error_mgr errors;
  struct jpeg_progress_mgr progress;
  jmp_buf escape;
  int max_scans;
  int outcome;
  char message[JMSG_LENGTH_MAX];
};

static void leave(struct orrery_jpeg *jpeg, int outcome)
{
  jpeg->outcome = outcome;
  longjmp(jpeg->escape, 1);
}

static void on_error(j_common_ptr cinfo)
{
  struct orrery_jpeg *jpeg = cinfo->client_data;
  cinfo->err->format_message(cinfo, jpeg->message);
  leave(jpeg, BROKEN);
}

/* What libjpeg only warns of. These leave every pixel where it belongs; after the others some are missing or wrong. */
static int is_harmless(int code)
{
  switch (code) {
  case JWRN_ADOBE_XFORM:
  case JWRN_BOGUS_PROGRESSION:
  case JWRN_EXTRANEOUS_DATA:
  case JWRN_JFIF_MAJOR:
  case JWRN_NOT_SEQUENTIAL:
  case JWRN_TOO_MUCH_DATA:
  case JWRN_BOGUS_ICC:
    return 1;
  default:
    return 0;
  }
}

static void on_message(j_common_ptr cinfo, int level)
{
  if (level < 0) {
    cinfo->err->num_warnings++;
    if (!is_harmless(cinfo->err->msg_code))
      on_error(cinfo);
  }
}

static void print_nothing(j_common_ptr cinfo)
{
  (void)cinfo;
}

static void on_progress(j_common_ptr cinfo)
{
  struct orrery_jpeg *jpeg = cinfo->client_data;
  if (cinfo->is_decompressor && ((j_decompress_ptr)cinfo)->input_scan_number > jpeg->max_scans) {
    snprintf(jpeg->message, sizeof(jpeg->message), "it has more than %d scans", jpeg->max_scans);
    leave(jpeg, TOO_MANY_SCANS);
  }
}

static int create(struct orrery_jpeg *jpeg, uint64_t max_memory)
{
  if (setjmp(jpeg->escape))
    return jpeg->outcome;
  jpeg_create_decompress(&jpeg->cinfo);
  jpeg->progress.progress_monitor = on_progress;
  jpeg->cinfo.progress = &jpeg->progress;
  jpeg->cinfo.mem->max_memory_to_use = max_memory > INT32_MAX ? INT32_MAX : (long)max_memory;
  return OK;
}

/* NULL when there is no memory. */
struct orrery_jpeg *orrery_jpeg_new(int max_scans, uint64_t max_memory)
{
  struct orrery_jpeg *jpeg = calloc(1, sizeof(*jpeg));
  if (!jpeg)
    return NULL;
  jpeg->max_scans = max_scans;
  jpeg->cinfo.err = jpeg_std_error(&jpeg->errors);
  jpeg->cinfo.client_data = jpeg;
  jpeg->errors.error_exit = on_error;
  jpeg->errors.emit_message = on_message;
  jpeg->errors.output_message = print_nothing;
  if (create(jpeg, max_memory) != OK) {
    jpeg_destroy_decompress(&jpeg->cinfo);
    free(jpeg);
    return NULL;
  }
  return jpeg;
}

void orrery_jpeg_free(struct orrery_jpeg *jpeg)
{
  if (jpeg) {
    jpeg_destroy_decompress(&jpeg->cinfo);
    free(jpeg);
  }
}

const char *orrery_jpeg_message(const struct orrery_jpeg *jpeg)
{
  return jpeg->message;
}

/* Reads up to the first scan; `data` must outlive the decompressor. */
int orrery_jpeg_header(struct orrery_jpeg *jpeg, const uint8_t *data, size_t size, struct orrery_jpeg_info *info)
{
  j_decompress_ptr cinfo = &jpeg->cinfo;
  if (setjmp(jpeg->escape))
    return jpeg->outcome;
  jpeg_mem_src(cinfo, data, (unsigned long)size);
  jpeg_read_header(cinfo, TRUE);
  info->width = cinfo->image_width;
  info->height = cinfo->image_height;
  switch (cinfo->jpeg_color_space) {
  case JCS_GRAYSCALE:
    cinfo->out_color_space = JCS_GRAYSCALE;
    info->kind = GREY;
    break;
  case JCS_CMYK:
  case JCS_YCCK:
    cinfo->out_color_space = JCS_CMYK;
    info->kind = CMYK;
    break;
  default:
    cinfo->out_color_space = JCS_RGB;
    info->kind = RGB;
    break;
  }
  return OK;
}

/* The dimensions at `eighths` of the size. */
int orrery_jpeg_scale(struct orrery_jpeg *jpeg, uint32_t eighths, uint32_t *width, uint32_t *height)
{
  j_decompress_ptr cinfo = &jpeg->cinfo;
  if (setjmp(jpeg->escape))
    return jpeg->outcome;
  cinfo->scale_num = eighths;
  cinfo->scale_denom = 8;
  jpeg_calc_output_dimensions(cinfo);
  *width = cinfo->output_width;
  *height = cinfo->output_height;
  return OK;
}

/* Starts the decoding of the columns from `*left` on, `*width` of them; both are widened to where blocks begin. */
int orrery_jpeg_start(struct orrery_jpeg *jpeg, uint32_t *left, uint32_t *width)
{
  j_decompress_ptr cinfo = &jpeg->cinfo;
  JDIMENSION x = *left, columns = *width;
  if (setjmp(jpeg->escape))
    return jpeg->outcome;
  jpeg_start_decompress(cinfo);
  if (x > 0 || columns < cinfo->output_width)
    jpeg_crop_scanline(cinfo, &x, &columns);
  *left = x;
  *width = columns;
  return OK;
}

/* Skips the rows above `top`, writes `rows` rows of `stride` bytes, and reads on to the end of the file. */
int orrery_jpeg_read(struct orrery_jpeg *jpeg, uint32_t top, uint32_t rows, uint8_t *pixels, size_t stride)
{
  j_decompress_ptr cinfo = &jpeg->cinfo;
  if (setjmp(jpeg->escape))
    return jpeg->outcome;
  if (top > 0)
    jpeg_skip_scanlines(cinfo, top);
  while (cinfo->output_scanline < top + rows) {
    JSAMPROW list[ROWS];
    uint32_t done = cinfo->output_scanline - top, count = 0;
    for (; count < ROWS && done + count < rows; count++)
      list[count] = pixels + (size_t)(done + count) * stride;
    jpeg_read_scanlines(cinfo, list, count);
  }
  if (cinfo->output_scanline < cinfo->output_height)
    jpeg_skip_scanlines(cinfo, cinfo->output_height - cinfo->output_scanline);
  jpeg_finish_decompress(cinfo);
  return OK;
}
