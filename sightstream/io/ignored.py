"""Names that are left alone: what other programs keep in a folder, and uploads that are unfinished.

docs/images-in.md says which program gives each name. A name is that of a file, or of a folder whose
content is then left alone too; case does not count.
"""

import fnmatch
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable

Ignored = Callable[[bytes], bool]
"""Tells whether a name is left alone."""

_SPECIAL = (b"*", b"?", b"[", b"]")
_GLOB = re.compile(rb"[*?\[]")
_Globs = defaultdict[int, list[bytes]]

# fmt: off
KNOWN = (
    # Unfinished uploads and downloads
    "*.part", "*.partial", "*.filepart", "*.crdownload", "*.download",
    "*.opdownload", "*.aria2", "*.!ut", "*.!qb", "*.bc!", "*.gstmp", "*.part.minio", "*._copying_",
    "_temporary", ".azdownload-*", ".distcp.tmp.*", ".aws-datasync*", ".in.*",
    ".pureftpd-upload.*", ".pureftpd-rename.*", ".ftpquota", ".ftpaccess", ".sftpgo-upload.*",
    "*.lftp-pget-status", ".pending-*",
    # rsync
    ".~tmp~", ".rsync-partial", ".rsync-tmp",
    ".?*.[a-z0-9][a-z0-9][a-z0-9][a-z0-9][a-z0-9][a-z0-9]",
    # Programs that keep folders the same
    ".stfolder*", ".stversions", ".stignore", ".stglobalignore", ".syncthing.*", "~syncthing~*.tmp",
    ".owncloudsync*", ".nextcloudsync*", ".sync_*", ".csync_journal.db*", ".?*.~*",
    "*.nextcloud", "*.owncloud", ".sync", ".syncarchive", ".syncid", ".syncignore", ".synctrash",
    "*.!sync", "*.bts", ".dropbox", ".dropbox.*", ".tmp.driveupload", ".tmp.drivedownload",
    ".849c9593-d756-4e56-8d6e-42412f2a707b", ".*.icloud", ".unison", ".unison.*",
    "*.ffs_tmp", "*.ffs_db", "*.ffs_lock", "_gsdata_", ".osync_workdir", ".debris", ".megaignore",
    "seafile-ignore.txt", "dfsrprivate", ".insync-trash",
    # Network storage
    "@eadir", "@tmp", "@sharebin", "@sharesnap", "#recycle", "#snapshot", "@synoresource",
    "@synoeastream", ".synologyworkingdirectory", "synophoto_*", "@recycle", "@recently-snapshot",
    "@transcode", "@__thumb", ".@plugins", ".@metadata", ".@__*", ".@upload_cache", ".recycle",
    ".smbdelete*",
    ".snapshot", ".snapshots", "~snapshot", ".snap", ".zfs", ".nfs[0-9a-f]*", ".fuse_hidden*",
    ".glusterfs", ".glusterfs-anonymous-inode*", ".trashcan", ".wdmc", ".minio.sys",
    # macOS
    ".ds_store", "._*", ".appledouble", ".appledb", ".appledesktop", ".spotlight-v100",
    ".fseventsd", ".trashes", ".trash", ".temporaryitems", ".documentrevisions-v100",
    ".volumeicon.icns", ".com.apple.timemachine.*", ".apdisk", ".metadata_never_index",
    ".localized", ".lsoverride", ".pkinstallsandboxmanager*", "icon\r", "__macosx",
    "*.sb-????????-??????", "*:afp_afpinfo", "*:afp_resource", "*:com.apple.*", ".mobilebackups",
    "network trash folder", "temporary items",
    # Windows
    "thumbs.db", "thumbs.db:*", "ehthumbs*.db", "desktop.ini", "$recycle.bin", "recycler",
    "recycled",
    "system volume information", "found.[0-9][0-9][0-9]", "indexervolumeguid",
    "*:zone.identifier", "*:smartscreen", "~rf*.tmp", "~$*",
    # Linux and Android
    ".trash-*", "lost+found", ".thumbnails", ".sh_thumbnails", ".xvpics", ".directory",
    ".goutputstream-*", ".~lock.*#", ".*.sw?", ".#*", ".nomedia", ".trashed-*",
    # Programs for pictures and for files of a project
    ".picasa.ini", "picasa.ini", ".picasaoriginals", ".bridge*", ".dtrash", ".photoprism",
    ".ppstorage", ".ppignore", ".git", ".svn", ".hg", ".ipynb_checkpoints",
)
# fmt: on


def ignored(more: Iterable[str] = ()) -> Ignored:
    """Return the test for `KNOWN` names, and for those that further glob patterns match."""
    # As one regular expression, all of them would take twenty times longer.
    names, first, last, others = set[bytes](), _Globs(list), _Globs(list), list[bytes]()
    for pattern in (*KNOWN, *more):
        each = os.fsencode(pattern).lower()
        if not _GLOB.search(each):
            names.add(each)
        elif each[:1] not in _SPECIAL:
            first[each[0]].append(each)
        elif each[-1:] not in _SPECIAL:
            last[each[-1]].append(each)
        else:
            others.append(each)
    begins, ends = ({end: _test(globs) for end, globs in of.items()} for of in (first, last))
    of_others = _test(others)

    def is_ignored(name: bytes) -> bool:
        if not name:  # of /, which has none
            return False
        name = name.lower()
        begin, end = begins.get(name[0]), ends.get(name[-1])
        return bool(
            name in names or (begin and begin(name)) or (end and end(name)) or of_others(name)
        )

    return is_ignored


def _test(globs: Iterable[bytes]) -> Callable[[bytes], object]:
    # As Latin-1, since a name is bytes, and each of them a character. A search for what follows a
    # first * is faster than a match of all.
    texts = [each.decode("latin-1") for each in globs]
    found = [
        fnmatch.translate(each[1:]) if each[0] == "*" else rf"\A{fnmatch.translate(each)}"
        for each in texts
    ]
    return re.compile("|".join(found or ["(?!)"]).encode("latin-1")).search
