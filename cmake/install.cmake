# What is installed where, and the Debian packages: arenascope, libarenascope0, libarenascope-dev.
include(CMakePackageConfigHelpers)
set(doc_dir ${CMAKE_INSTALL_DATAROOTDIR}/doc)

if(TARGET arenascope)
	install(TARGETS arenascope RUNTIME COMPONENT program)
endif()
install(FILES README.md DESTINATION ${doc_dir}/arenascope COMPONENT program)
file(GLOB man_pages CONFIGURE_DEPENDS doc/man/*.[1-8])
foreach(page ${man_pages})
	get_filename_component(section ${page} LAST_EXT)
	string(SUBSTRING ${section} 1 -1 section)
	install(FILES ${page} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section} COMPONENT program)
endforeach()
install(DIRECTORY doc/schema/ DESTINATION ${CMAKE_INSTALL_DATAROOTDIR}/arenascope/schema COMPONENT program
	OPTIONAL FILES_MATCHING PATTERN "*.json")
install(FILES completions/arenascope.bash DESTINATION ${CMAKE_INSTALL_DATAROOTDIR}/bash-completion/completions
	RENAME arenascope COMPONENT program OPTIONAL)
install(FILES completions/_arenascope DESTINATION ${CMAKE_INSTALL_DATAROOTDIR}/zsh/vendor-completions
	COMPONENT program OPTIONAL)
install(FILES completions/arenascope.fish DESTINATION ${CMAKE_INSTALL_DATAROOTDIR}/fish/vendor_completions.d
	COMPONENT program OPTIONAL)

set_target_properties(libarenascope PROPERTIES EXPORT_NAME arenascope)
install(TARGETS libarenascope EXPORT arenascopeTargets
	LIBRARY COMPONENT library NAMELINK_COMPONENT development)
install(DIRECTORY include/arenascope DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development
	FILES_MATCHING PATTERN "*.h")
configure_file(cmake/arenascope.pc.in arenascope.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/arenascope.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig
	COMPONENT development)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/arenascope)
configure_package_config_file(cmake/arenascopeConfig.cmake.in arenascopeConfig.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(arenascopeConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/arenascopeConfig.cmake
	${CMAKE_CURRENT_BINARY_DIR}/arenascopeConfigVersion.cmake DESTINATION ${package_dir} COMPONENT development)
install(EXPORT arenascopeTargets NAMESPACE arenascope:: DESTINATION ${package_dir} COMPONENT development)

# ---- Debian packages: cpack -G DEB in a build with CMAKE_INSTALL_PREFIX=/usr ----
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "debugger for the heap of glibc programs")
set(CPACK_PACKAGE_NAME arenascope)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_CONTACT "The arenascope developers <arenascope@users.noreply.github.com>")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_PRE_BUILD_SCRIPTS ${PROJECT_SOURCE_DIR}/cmake/compress-manuals.cmake)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_ALL program library development)
set(CPACK_COMPONENTS_GROUPING IGNORE)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${CMAKE_CURRENT_BINARY_DIR})
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
	OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)

set(CPACK_DEBIAN_PROGRAM_PACKAGE_NAME arenascope)
set(CPACK_DEBIAN_PROGRAM_PACKAGE_SECTION devel)
set(CPACK_DEBIAN_PROGRAM_PACKAGE_RECOMMENDS "libc6-dbg, libdebuginfod1")
set(CPACK_DEBIAN_PROGRAM_DESCRIPTION "Attaches to a running process, or opens a core file, and says to the page
where its memory went, why it does not come back to the system, and gives
back what malloc_trim() cannot.")
set(CPACK_DEBIAN_LIBRARY_PACKAGE_NAME libarenascope0)
set(CPACK_DEBIAN_LIBRARY_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_LIBRARY_PACKAGE_CONTROL_EXTRA ${CMAKE_CURRENT_BINARY_DIR}/debian/shlibs
	${CMAKE_CURRENT_BINARY_DIR}/debian/triggers)
set(CPACK_DEBIAN_LIBRARY_DESCRIPTION "The library under arenascope: targets, symbols, a model of glibc's malloc,
the ledger of every page.")
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME libarenascope-dev)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS "libarenascope0 (= ${PROJECT_VERSION})")
set(CPACK_DEBIAN_DEVELOPMENT_DESCRIPTION "Headers, pkg-config file and CMake package of libarenascope.")

# Debian wants these two in every package.
set(debian_dir ${CMAKE_CURRENT_BINARY_DIR}/debian)
string(CONCAT changelog "arenascope (${PROJECT_VERSION}) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n"
	" -- ${CPACK_PACKAGE_CONTACT}  Sun, 22 Nov 2026 12:00:00 +0000\n")
file(WRITE ${debian_dir}/changelog "${changelog}")
file(WRITE ${debian_dir}/shlibs "libarenascope 0 libarenascope0 (>= ${PROJECT_VERSION})\n")
file(WRITE ${debian_dir}/triggers "activate-noawait ldconfig\n")
execute_process(COMMAND gzip -9nf ${debian_dir}/changelog)
string(CONCAT copyright "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"
	"Upstream-Name: arenascope\n\nFiles: *\nCopyright: 2026 The arenascope developers\nLicense: GPL-3+\n"
	" On Debian systems, the full text of the GNU General Public License version 3\n"
	" can be found in /usr/share/common-licenses/GPL-3.\n")
file(WRITE ${debian_dir}/copyright "${copyright}")
foreach(pair program:arenascope library:libarenascope0 development:libarenascope-dev)
	string(REPLACE ":" ";" pair ${pair})
	list(GET pair 0 component)
	list(GET pair 1 package)
	install(FILES ${debian_dir}/copyright ${debian_dir}/changelog.gz DESTINATION ${doc_dir}/${package}
		COMPONENT ${component})
endforeach()
include(CPack)
