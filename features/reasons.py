"""Why something was rejected."""

from enum import StrEnum

from features.errors import PlaitError


class Reason(StrEnum):
    """The reasons a reject can have."""

    MISSING_FILE = "missing_file"
    UNKNOWN_FILE = "unknown_file"  # of no kind that Plait reads
    UNREADABLE = "unreadable"  # the file is there, its bytes cannot be had
    UNDECODABLE = "undecodable"  # not the format it claims, or broken from the start
    TRUNCATED = "truncated"  # decodes, but ends before it should
    NO_STREAM = "no_stream"  # the container lacks the stream that was asked for
    SILENT = "silent"
    EMPTY = "empty"  # nothing left of it
    TOO_LONG = "too_long"
    TOO_SHORT = "too_short"
    DUPLICATE = "duplicate"
    BAD_INTERVAL = "bad_interval"  # ends before or as it starts
    OUTSIDE_MEDIA = "outside_media"  # lies where the recording has nothing
    UNCOVERED = "uncovered"  # audio or video has only a part of it
    NOTHING_TO_CUT = "nothing_to_cut"  # the recording lacks what it is to be cut by
    CLIPPED = "clipped"  # reached beyond the recording and was shortened
    BAD_TRANSCRIPT = "bad_transcript"
    BAD_LABELS = "bad_labels"
    OUT_OF_ORDER = "out_of_order"  # intervals that the file does not have in order of time
    OVERLAP = "overlap"  # cues that are on at the same time
    WRONG_UNIT = "wrong_unit"  # times that would fit the recording in another unit than seconds
    OTHER_RECORDING = "other_recording"  # times that fit no recording of this length, or none with this sound
    SHIFTED = "shifted"  # times that would fit the sound better elsewhere
    UNSYNCHRONISED = "unsynchronised"  # a separate recorder whose clock could not be related to the video's
    NO_REFERENCE = "no_reference"  # a video without sound, to which no recorder can be related
    LENGTH_MISMATCH = "length_mismatch"  # audio and video of very different length
    NOT_ALIGNED = "not_aligned"  # the sound does not hold the words of its transcript
    NON_FINITE = "non_finite"  # the encoder gave NaN or infinity
    NOT_ENCODABLE = "not_encodable"  # the encoder failed on it
    TOO_LARGE = "too_large"  # encoding it alone takes more memory than there is


class MediaError(PlaitError):
    """One sample's media cannot be used; it becomes a reject with this reason."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason
