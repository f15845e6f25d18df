-- SQLite compares text byte by byte by default (BINARY).
SELECT 1;
